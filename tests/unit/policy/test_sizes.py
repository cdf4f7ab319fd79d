"""Sizes from shapes against real ones: published totals, transformers' own count, PEFT's adapter,
files on disk.
"""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import Qwen2_5_VLForConditionalGeneration

from geoagent_rl.policy import sizes
from geoagent_rl.policy.model import adapter_state, load_policy, save_adapter
from geoagent_rl.rewards.judge_models import TINY
from geoagent_rl.tiny.policy import Recipe, model_config
from geoagent_rl.types import UserError
from tests.support import tiny_random

# Totals of the published checkpoints' indexes.
TOTALS = {
    "Qwen2.5-VL-3B": 3_754_622_976,
    "Qwen2.5-VL-7B": 8_292_166_656,
    "Qwen2.5-VL-32B": 33_452_718_336,
    "Qwen2.5-VL-72B": 73_410_777_344,
    "Qwen3-VL-2B": 2_127_532_032,
    "Qwen3-VL-4B": 4_437_815_808,
    "Qwen3-VL-8B": 8_767_123_696,
    "gemma-3-4b": 4_300_079_472,
    "gemma-3-12b": 12_187_325_040,
    "gemma-3-27b": 27_432_406_640,
    "Qwen3-32B": 32_762_123_264,
    "SmolLM2-135M": 134_515_008,
}


@pytest.mark.parametrize("name", TOTALS)
def test_published_totals(name):
    assert sizes.PUBLISHED[name].parameters == TOTALS[name]


def test_the_papers_share_of_trained_parameters():
    seven = sizes.architecture("Qwen/Qwen2.5-VL-7B-Instruct", "policy.model")
    lora = seven.lora_parameters(64)
    assert lora / (seven.parameters + lora) == pytest.approx(0.0191, abs=5e-5)  # paper: 1.91 %


def test_a_checkpoint_is_counted_as_transformers_and_peft_count_it(tmp_path):
    directory = tiny_random.build(tmp_path / "model")
    shape = sizes.architecture(directory, "policy.model")
    policy = load_policy(directory, lora=(8, 16))
    lora = sum(p.numel() for n, p in policy.named_parameters() if p.requires_grad)
    assert shape.lora_parameters(8) == lora
    assert shape.parameters == sum(p.numel() for p in policy.parameters()) - lora
    save_adapter(policy, adapter_state(policy), tmp_path / "adapter")
    file = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert shape.lora_parameters(8) * 4 == pytest.approx(
        file, rel=0.2
    )  # the rest is the file's header


def test_the_tiny_policys_row_is_its_recipe():
    class Tokenizer:
        eos_token_id = pad_token_id = 0

        def __len__(self):
            return sizes.PUBLISHED["tiny-policy"].vocab

        def convert_tokens_to_ids(self, tokens):
            return list(range(len(tokens)))

    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(model_config(Recipe(), Tokenizer()))
    assert sizes.architecture("tiny", "policy.model").parameters == sum(
        p.numel() for p in model.parameters()
    )


def test_gptq_weights_are_counted_to_the_byte():
    with safe_open(TINY / "model.safetensors", "pt") as file:
        size = sum(t.numel() * t.element_size() for t in map(file.get_tensor, file.keys()))
    assert sizes.judge_architecture("tiny").weight_bytes("bfloat16") == size
    judge = sizes.judge_architecture("JunHowie/Qwen3-32B-GPTQ-Int4").weight_bytes("bfloat16")
    assert 16 < judge / 2**30 < 20


@pytest.mark.parametrize("model", ["my-own-model", "runs/not-there"])
def test_what_is_not_known_is_said(model):
    with pytest.raises(UserError, match="Qwen2.5-VL-7B"):
        sizes.architecture(model, "policy.model")


def test_other_architectures_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba", "hidden_size": 8}))
    with pytest.raises(UserError, match="mamba is not supported"):
        sizes.architecture(str(tmp_path), "policy.model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "hidden_size": 8}))
    with pytest.raises(UserError, match="num_attention_heads"):
        sizes.architecture(str(tmp_path), "policy.model")
