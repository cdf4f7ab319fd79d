"""A run's checkpoint becomes a checkpoint of its own that plain transformers loads and that answers
the same.
"""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open
from typer.testing import CliRunner

from cluster.cli.local import app
from geoagent_rl.data.images import open_image
from geoagent_rl.policy.export import export, find_checkpoint
from geoagent_rl.policy.model import adapter_state, load_policy, save_adapter, save_merged
from geoagent_rl.policy.prompt import encode, load_processor
from geoagent_rl.types import UserError
from tests.support import tiny_random


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(base directory, policy with a trained adapter, run directory with its checkpoint of step
    3).
    """
    directory = tmp_path_factory.mktemp("export")
    base = tiny_random.build(directory / "base")
    policy = load_policy(base, lora=(4, 12))
    with torch.no_grad():
        for name, p in policy.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.2, generator=torch.Generator().manual_seed(len(name)))
    checkpoint = directory / "run" / "checkpoints" / "step-000003"
    save_adapter(policy, adapter_state(policy), checkpoint / "adapter")
    (checkpoint / "state.json").write_text(json.dumps({"base": base, "dtype": "float32"}))
    (checkpoint.parent / "step-000004.part").mkdir()  # torn
    return base, policy, directory / "run"


def answers(network, prompt, processor):
    """(next-token logits of the prompt, 12 greedily chosen tokens)."""
    ids = torch.tensor([prompt.ids])
    image = network.config.image_token_id
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == image).long(),
        "pixel_values": prompt.pixel_values,
        "image_grid_thw": prompt.image_grid_thw,
    }
    with torch.inference_mode():
        out = network.eval().generate(**inputs, max_new_tokens=12, do_sample=False)
        return network(**inputs).logits[0, -1], out[0, len(prompt.ids) :].tolist()


def test_the_exported_checkpoint_gives_the_same_answers_in_plain_transformers(place, tmp_path):
    base, policy, run = place
    done = CliRunner().invoke(app, ["export", str(run), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    plain = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    processor = load_processor(str(tmp_path / "out"))
    picture = open_image(tiny_random.picture(tmp_path / "a.png", 1))
    prompt = encode(processor, picture, "tiny", 200_000)
    assert prompt.ids == encode(load_processor(base), picture, "tiny", 200_000).ids
    logits, tokens = answers(plain, prompt, processor)
    expected, expected_tokens = answers(policy.network, prompt, processor)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert tokens == expected_tokens
    with policy.adapter_off():
        assert (
            answers(policy.network, prompt, processor)[0] - expected
        ).abs().max() > 0.01  # the adapter matters
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "lora" in name]


def test_a_run_means_its_newest_complete_checkpoint(place):
    checkpoint = place[2] / "checkpoints" / "step-000003"
    assert find_checkpoint(place[2]) == checkpoint == find_checkpoint(checkpoint)


def test_what_cannot_be_exported_says_why_and_leaves_nothing(place, tmp_path):
    run = place[2]
    with pytest.raises(UserError, match="neither a checkpoint"):
        export(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="no policy model|is gone"):
        export(run, tmp_path / "out", base=str(tmp_path / "nowhere"))
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="exists already"):
        export(run, tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_base_is_never_written_over(place):
    base, policy, _ = place
    before = {p.name: p.read_bytes() for p in Path(base).iterdir()}
    for name in (base, f"{base}/../{Path(base).name}"):
        with pytest.raises(UserError, match="never written over"):
            save_merged(policy, base, name)
    assert {p.name: p.read_bytes() for p in Path(base).iterdir()} == before
