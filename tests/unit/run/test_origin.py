"""What a run stands on: each change is seen, told apart, and refused where it spoils the run."""

import dataclasses
import random

import pytest

from geoagent_rl.run.origin import (
    check_origin,
    code_version,
    origin_kept,
    origin_of,
    weights_digest,
)
from geoagent_rl.types import Prompt, Truth, UserError

PROMPTS = [Prompt(f"p{i}", f"/data/{i}.jpg", Truth("Japan", "", "", i, 2.0)) for i in range(50)]


@pytest.fixture
def base(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(random.Random(name).randbytes(3_000_000))
    return tmp_path


def changed(base, prompts=PROMPTS, seed=0, accept=True):
    before = origin_of(PROMPTS, 0, base)
    return check_origin(before, origin_of(prompts, seed, base), accept)


def test_nothing_changed_is_nothing_to_say(base):
    moved = [dataclasses.replace(p, image=f"/moved{p.image}") for p in PROMPTS]
    assert changed(base) == changed(base, moved) == []


def test_an_older_checkpoint_belongs_to_the_base_that_it_names(base, tmp_path_factory):
    now, older = origin_of(PROMPTS, 0, base), {"base": str(base), "done": 3}
    assert check_origin(origin_kept(older), now, False) == []
    assert check_origin(origin_kept({"base": "someone/on-the-hub"}), now, False) == []
    assert origin_kept({"base": str(base), "origin": {"base": "kept"}}) == {"base": "kept"}
    other = tmp_path_factory.mktemp("other")
    (other / "a.safetensors").write_bytes(bytes(3_000_000))
    for place in (other, other / "gone"):
        with pytest.raises(UserError, match="adapter belongs"):
            check_origin(origin_kept({"base": str(place)}), now, False)
    with pytest.raises(UserError, match="adapter belongs"):  # before the new base is known
        check_origin(origin_kept({"base": str(other / "gone")}), origin_of(PROMPTS, 0), False)


@pytest.mark.parametrize(
    ("prompts", "seed"), [(PROMPTS[1:], 0), ([*PROMPTS[1:], PROMPTS[0]], 0), (PROMPTS, 1)]
)
def test_another_order_of_prompts_is_refused_unless_accepted(base, prompts, seed):
    with pytest.raises(UserError, match=r"shown again.*--accept-changes"):
        changed(base, prompts, seed, accept=False)
    assert "photographs or run.seed" in changed(base, prompts, seed)[0]


def test_other_truths_are_said(base):
    moved = [*PROMPTS[:-1], dataclasses.replace(PROMPTS[-1], truth=Truth("Peru", "", "", 0, 0))]
    (line,) = changed(base, moved, accept=False)
    assert "the places or files of the training photographs" in line


def test_other_weights_are_refused_and_a_copy_is_not(base, tmp_path_factory):
    before, copy = origin_of(PROMPTS, 0, base), tmp_path_factory.mktemp("copy")
    for file in base.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert weights_digest(copy) == before["base"]
    trained = bytearray((copy / "b.safetensors").read_bytes())
    for i in range(0, len(trained), 1000):
        trained[i] ^= 1
    (copy / "b.safetensors").write_bytes(trained)
    with pytest.raises(UserError, match="adapter belongs"):
        check_origin(before, origin_of(PROMPTS, 0, copy), False)


def test_other_code_is_said(base):
    before = origin_of(PROMPTS, 0, base) | {"code": "0.0.1+abc"}
    (line,) = check_origin(before, origin_of(PROMPTS, 0, base), False)
    assert line.endswith("the code") and code_version() == code_version()
