"""Each family of policies, random and tiny: our rows, masks, positions and features against plain
transformers, which takes each sequence alone, with its own pixels.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image, ImageOps
from safetensors import safe_open

from geoagent_rl.config import Config
from geoagent_rl.grpo.batching import Layout, collate, micro_batches
from geoagent_rl.grpo.loss import normaliser, policy_losses, unnormalised_loss
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.policy.architecture import text_shape
from geoagent_rl.policy.attention import use_flex
from geoagent_rl.policy.export import export
from geoagent_rl.policy.families import FAMILIES, check_engine, check_learner, family_of
from geoagent_rl.policy.families.family import Family
from geoagent_rl.policy.generate import generate
from geoagent_rl.policy.model import adapter_state, load_policy, save_adapter
from geoagent_rl.policy.prompt import (
    banned_ids,
    check_image_tokens,
    completion_ids,
    encode,
    end_id,
    image_budget,
    load_processor,
    probe_ids,
    prompt_text,
)
from geoagent_rl.policy.sizes import architecture
from geoagent_rl.types import UserError
from tests.support import tiny_families

KINDS = list(FAMILIES)
SIZES = [(96, 96), (140, 56), (60, 90)]  # as different grids and tiles
PIXELS = 10_000
LAYOUTS = {
    "own rows": Layout(10**6, 1, share=False),
    "shared": Layout(10**6, 10**6, multiple=8),
    "packed": Layout(10**6, 1, packed=True, multiple=16),
}


class World:
    """A policy whose adapter does something, three pictures, a group of samples on them."""

    def __init__(self, directory: str) -> None:
        self.directory, self.processor = directory, load_processor(directory)
        self.policy = load_policy(directory, lora=(4, 8))
        self.family = self.policy.family
        with torch.no_grad():
            for name, p in self.policy.named_parameters():
                if "lora_B" in name:
                    p.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
        noise = torch.Generator().manual_seed(1)
        self.pictures, self.prompts, self.samples = [], [], []
        for width, height in SIZES:
            pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=noise)
            self.pictures.append(Image.fromarray(pixels.numpy()))
            self.prompts.append(encode(self.processor, self.pictures[-1], "tiny", PIXELS))
        for i in range(6):
            ids = torch.randint(0, 250, (3 + 4 * i,), generator=noise).tolist()
            advantage = float(torch.randn((), generator=noise))
            prompt = self.prompts[i % 3].ids
            self.samples.append(TrainSample(str(i), str(i % 3), prompt, tuple(ids), advantage))

    def batch(self, layout: Layout):
        """All samples in one micro-batch."""
        (rows,) = micro_batches(self.samples, layout)
        config, pad = self.policy.network.config, self.processor.tokenizer.pad_token_id
        return collate(rows, ["0", "1", "2"], config.image_token_id, pad, layout.multiple), rows

    def ours(self, layout: Layout, flex: bool = False):
        """([B, T] log-probabilities, batch) in the order of the rows."""
        batch, rows = self.batch(layout)
        grids = torch.cat([p.image_grid_thw for p in self.prompts])
        pixels = torch.cat([p.pixel_values for p in self.prompts])
        features = self.policy.image_features(pixels, grids)
        positions = self.policy.position_ids(batch, grids)
        mask = self.policy.mask(batch, positions, flex)
        return self.policy(batch, features, positions, mask=mask)[0], batch, rows

    def plain(self, rows, network=None) -> torch.Tensor:
        """The same by transformers alone: its own processor's inputs, one sequence at a time."""
        samples = [s for row in rows for block in row for s in block]
        longest = max(len(s.completion_ids) for s in samples)
        found = [
            torch.nn.functional.pad(values, (0, longest - len(values)))
            for values in (self.alone(s, network or self.policy.network) for s in samples)
        ]
        return torch.stack(found)

    def alone(self, sample: TrainSample, network) -> torch.Tensor:
        """Log-probabilities [T] of a sample's completion."""
        inputs = self.processor.own(
            text=[prompt_text(self.processor, "tiny")],
            images=[self.pictures[int(sample.image)]],
            add_special_tokens=False,
            return_tensors="pt",
            **image_budget(self.processor, PIXELS),
        )
        told, said = inputs["input_ids"].shape[1], torch.tensor([sample.completion_ids])
        assert inputs["input_ids"][0].tolist() == list(sample.prompt_ids)
        ids = torch.cat([inputs.pop("input_ids"), said], 1)
        inputs.pop("attention_mask")
        more = {k: v if v.shape != (1, told) else grown(v, ids) for k, v in inputs.items()}
        logits = network(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits
        predicted = logits[0, told - 1 : -1].log_softmax(-1)
        return predicted.gather(-1, said[0][:, None])[:, 0]

    def gradients(self, loss: torch.Tensor) -> dict[str, torch.Tensor]:
        loss.backward()
        named = self.policy.named_parameters()
        found = {n: p.grad.clone() for n, p in named if p.grad is not None}
        self.policy.zero_grad()
        return found


def grown(types: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Kinds of tokens [1, L]: completions are text, 0."""
    return torch.nn.functional.pad(types, (0, ids.shape[1] - types.shape[1]))


def grpo(values: torch.Tensor, batch) -> torch.Tensor:
    """The paper's loss with a KL term, of log-probabilities [B, T]."""
    mask = batch.completion_mask.float()
    losses, _ = policy_losses(
        values,
        batch.advantages,
        mask,
        ratio="token",
        weights=None,
        old_logprobs=values.detach() + 0.05,
        ref_logprobs=values.detach() - 0.1,
        clip_low=0.2,
        clip_high=0.2,
        ratio_cap=2.0,
        kl_beta=0.1,
    )
    return unnormalised_loss(losses, batch.mask, "grpo", 1) / normaliser("grpo", len(mask), 1, 1)


def sft(values: torch.Tensor, batch) -> torch.Tensor:
    """The cold start's loss: the mean over all tokens."""
    return -(values * batch.mask).sum() / batch.mask.sum()


@pytest.fixture(scope="module", params=KINDS)
def world(request, tmp_path_factory):
    return World(tiny_families.build(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("loss", [grpo, sft])
def test_logprobs_loss_and_gradients_are_those_of_plain_transformers(world, name, loss):
    if name != "own rows" and not world.family.shares_prompts:
        pytest.skip("refused: see below")
    found, batch, rows = world.ours(LAYOUTS[name])
    expected = world.plain(rows) * batch.completion_mask
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    ours, theirs = loss(found, batch), loss(expected, batch)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4, abs=1e-6)
    ours, theirs = world.gradients(ours), world.gradients(theirs)
    largest = max(float(g.abs().max()) for g in theirs.values())
    assert ours.keys() == theirs.keys() and len(ours) == 2 * len(world.policy.lora_layers) > 20
    for key, gradient in theirs.items():
        torch.testing.assert_close(ours[key], gradient, rtol=1e-3, atol=2e-5 * largest, msg=key)


def test_a_picture_matters_and_the_adapter_too(world):
    """Otherwise the test above would prove nothing."""
    sample, network, kept = world.samples[0], world.policy.network, world.pictures[0]
    with torch.no_grad():
        values = world.alone(sample, network)
        with world.policy.adapter_off():
            assert (world.alone(sample, network) - values).abs().max() > 1e-3
        world.pictures[0] = ImageOps.invert(kept)
        assert (world.alone(sample, network) - values).abs().max() > 1e-3
        world.pictures[0] = kept


def test_the_probe_is_that_of_plain_transformers(world):
    ids = torch.tensor([probe_ids(world.processor.tokenizer)])
    with torch.no_grad():
        logits = world.policy.network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    expected = logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    found = world.policy.train().text_logprobs(ids[0].tolist())
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", ["packed", "shared"])
def test_flex_attention_sees_what_the_mask_shows(world, name):
    """Forward only: torch refuses its backward on CPUs (test_split_invariance lifts that check)."""
    if not world.family.shares_prompts:
        pytest.skip("refused: see below")
    layout = replace(LAYOUTS[name], multiple=128)
    network = world.policy.network
    with torch.no_grad():
        expected, _, _ = world.ours(layout)
        kept = network.config.text_config._attn_implementation
        use_flex(network)
        found, _, _ = world.ours(layout, flex=True)
        network.set_attn_implementation({"text_config": kept})
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)


def test_an_exported_checkpoint_is_the_policy_in_plain_transformers(world, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    save_adapter(world.policy, adapter_state(world.policy), checkpoint / "adapter")
    state = {"base": world.directory, "dtype": "float32"}
    (checkpoint / "state.json").write_text(json.dumps(state))
    export(checkpoint, tmp_path / "out")
    assert names(tmp_path / "out") == names(Path(world.directory))
    plain = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        found, batch, rows = world.ours(LAYOUTS["own rows"])
        expected = world.plain(rows, plain) * batch.completion_mask
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    asked = {"max_tokens": 8, "max_pixels": PIXELS}
    text = generate(world.policy, world.processor, world.pictures[1], "tiny", **asked)
    exported = load_policy(str(tmp_path / "out"))
    again = load_processor(str(tmp_path / "out"))
    assert generate(exported, again, world.pictures[1], "tiny", **asked) == text != ""


def names(checkpoint: Path) -> set[str]:
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        return set(file.keys())


def test_prompts_have_as_many_image_tokens_as_features_and_marks_are_banned(world):
    image_token = world.policy.network.config.image_token_id
    merge, banned = world.family.merge(world.policy.network.config), banned_ids(world.processor)
    for prompt in world.prompts:
        (features,) = world.policy.image_features(prompt.pixel_values, prompt.image_grid_thw)
        assert prompt.ids.count(image_token) == len(features) > 1
        check_image_tokens("x", len(features), prompt.image_grid_thw[0], merge)
        around = [i for i in range(len(prompt.ids)) if prompt.ids[i] == image_token]
        marks = {prompt.ids[around[0] - 1], image_token, prompt.ids[around[-1] + 1]}
        assert marks <= set(banned)
        ends = (world.processor.tokenizer.bos_token_id, end_id(world.processor))
        assert prompt.ids.count(ends[0]) == (ends[0] is not None)
    ids = completion_ids(world.processor, "Köln")
    assert ids[-1] == ends[1] and ids[-1] not in banned
    assert world.processor.tokenizer.decode(ids, skip_special_tokens=True) == "Köln"
    for token in (image_token, ends[1]):
        with pytest.raises(UserError, match="row-7: the text holds"):
            completion_ids(world.processor, world.processor.tokenizer.decode([token]), "row-7")


def test_a_prompt_ends_where_the_answer_begins(world):
    """Answers open their own <think>: a template that opens one too has closed it again."""
    text = prompt_text(world.processor, "tiny")
    assert text.count("<think>") == text.count("</think>") and text.endswith("\n")
    kept = world.processor.own.chat_template
    world.processor.own.chat_template = kept.replace("</think>", "").rstrip("\n") + "<think>\n"
    with pytest.raises(UserError, match="take the Instruct checkpoint"):
        prompt_text(world.processor, "tiny")
    world.processor.own.chat_template = kept


def test_plans_know_the_sizes(world):
    shape = architecture(world.directory, "policy.model")
    counted = {n: p.numel() for n, p in world.policy.named_parameters()}
    lora = sum(size for name, size in counted.items() if ".lora_" in name)
    assert shape.lora_parameters(4) == lora
    assert shape.parameters == sum(counted.values()) - lora
    image_token = world.policy.network.config.image_token_id
    most = max(prompt.ids.count(image_token) for prompt in world.prompts)
    assert 0 <= shape.image_tokens(PIXELS) - most <= most


def test_what_is_not_supported_is_refused_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "internvl_chat"}))
    for refused in (family_of, load_policy, load_processor):
        with pytest.raises(UserError, match=r"internvl_chat is not supported; .*\(internvl\)"):
            refused(str(tmp_path))
    config = Config()
    config.rollout.gpus_per_engine = 0
    with pytest.raises(UserError, match="Qwen3.5 has layers that carry a state"):
        check_learner(FAMILIES["qwen3_5"], config)
    config.rollout.swap = "adapter"
    with pytest.raises(UserError, match="Qwen3.5's adapter cannot be checked; set it to merged"):
        check_engine(FAMILIES["qwen3_5"], config)
    config.rollout.swap, config.learner.share_prompts = "merged", False
    with pytest.raises(UserError, match="Qwen3.5 cannot generate on CPUs: .* bfloat16"):
        check_engine(FAMILIES["qwen3_5"], config)
    check_learner(FAMILIES["qwen3_5"], config)
    with pytest.raises(UserError, match="Gemma 3 cannot generate on CPUs: .* image tokens"):
        check_engine(FAMILIES["gemma3"], config)
    config.rollout.gpus_per_engine = 1
    check_engine(FAMILIES["gemma3"], config)


class Llava(Family):
    """A family of the test's own, as CONTRIBUTING.md says."""

    title = "LLaVA"
    banned = ("<IMG_CONTEXT>",)

    def image_budget(self, own, max_pixels):
        return {}

    def grid(self, own, inputs):
        return torch.tensor([[len(inputs["pixel_values"]), 4, 4]])

    def image_features(self, network, pixels, grids):
        with torch.no_grad():
            return tuple(network.model.get_image_features(pixels).pooler_output)

    def shape(self, config):
        return text_shape(config["text_config"], tied=True)


def test_a_further_family_is_one_class_and_one_entry(monkeypatch, tmp_path):
    monkeypatch.setitem(FAMILIES, "llava", Llava())
    tokens = tiny_families.internvl()[1].tokenizer
    image_token = tokens.convert_tokens_to_ids("<IMG_CONTEXT>")
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2}
    config = transformers.LlavaConfig(
        text_config=tiny_families.TEXT | {"model_type": "qwen3", "vocab_size": len(tokens)},
        vision_config=vision
        | {"model_type": "siglip_vision_model", "num_hidden_layers": 2}
        | {"image_size": 56, "patch_size": 14, "vision_use_head": False},
        image_token_id=image_token,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    processor = transformers.LlavaProcessor(
        image_processor=transformers.SiglipImageProcessor(size={"height": 56, "width": 56}),
        tokenizer=tokens,
        patch_size=14,
        vision_feature_select_strategy="full",
        chat_template=tiny_families.INTERNVL_CHATML,
        image_token="<IMG_CONTEXT>",
    )
    world = World(tiny_families.save(config, processor, tmp_path))
    assert FAMILIES["llava"].shape(config.to_dict()).layers == config.text_config.num_hidden_layers
    for name in LAYOUTS:
        test_logprobs_loss_and_gradients_are_those_of_plain_transformers(world, name, grpo)
    test_an_exported_checkpoint_is_the_policy_in_plain_transformers(world, tmp_path)
