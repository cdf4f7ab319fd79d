"""The digest of published weights: any difference shows, the way they were written does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geoagent_rl.policy.digest import read_weights, weights_digest
from geoagent_rl.policy.model import load_policy, save_merged
from tests.support import tiny_random


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_difference_shows(dtype):
    base = {"a": torch.ones(3, 4, dtype=dtype), "b": torch.zeros(2, dtype=dtype)}
    least = base["a"].clone()
    least[2, 3] += torch.finfo(dtype).eps  # the last bit of one number
    others = [
        {**base, "a": least},
        {**base, "a": base["a"].reshape(4, 3)},
        {"a": base["a"]},
        {"a": base["a"], "c": base["b"]},
        {**base, "b": torch.zeros(2, dtype=torch.float64)},
    ]
    digests = {weights_digest(tensors) for tensors in (base, *others)}
    assert len(digests) == 1 + len(others)


def test_what_is_read_back_is_what_was_written(tmp_path: Path):
    tensors = {
        f"t{i}": torch.randn(3, 5, generator=torch.Generator().manual_seed(i)) for i in (1, 2)
    }
    for name, tensor in tensors.items():
        save_file({name: tensor}, tmp_path / f"{name}.safetensors")
    assert weights_digest(read_weights(tmp_path)) == weights_digest(dict(reversed(tensors.items())))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_publication_says_the_digest_of_its_files(dtype, tmp_path):
    """Else every engine would refuse every version."""
    model = tiny_random.build(tmp_path / "model")
    policy = load_policy(model, dtype, lora=(4, 8))
    said = save_merged(policy, model, str(tmp_path / "merged"))
    assert said == weights_digest(read_weights(tmp_path / "merged"))
