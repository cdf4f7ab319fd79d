"""A checkpoint is whole or absent; which are kept; what a full disk does."""

import json
import subprocess
import sys

import pytest

from geoagent_rl.run.checkpoints import (
    BackgroundWriter,
    complete,
    damage,
    newest_whole,
    step_of,
    tidy,
    write_whole,
)

FULL = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from geoagent_rl.run.checkpoints import BackgroundWriter, complete, damage
folder, writer = Path(sys.argv[1]), BackgroundWriter()
tensors = {"x": torch.zeros(50_000)}
def write(out):
    (out / "adapter").mkdir()
    save_file(tensors, out / "adapter" / "x.safetensors")
writer.begin(folder / "step-000001", write, {})
writer.wait()
assert not writer.take_problems()
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
writer.begin(folder / "step-000002", write, {})
writer.wait()
print(writer.take_problems())
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
writer.begin(folder / "step-000003", write, {})
writer.wait()
print([p.name for p in sorted(folder.iterdir())], [damage(p) for p in complete(folder)])
"""


def save(folder, step, text="weights"):
    write_whole(
        folder / f"step-{step:06d}", lambda out: (out / "a.bin").write_text(text), {"done": step}
    )


def test_a_failed_write_leaves_nothing_and_no_older_checkpoint_changes(tmp_path):
    save(tmp_path, 1)

    def half(out):
        (out / "a.bin").write_text("half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_whole(tmp_path / "step-000002", half, {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"] and damage(
        tmp_path / "step-000001"
    ) == ""


HARMS = [
    "shorter",
    "gone",
    "no state",
    "half a state",
    "a flipped bit",
    "a flipped bit in the state",
]


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-2 if path.suffix == ".bin" else data.index(b'"done": 2') + 8] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_is_passed_over_with_a_word(tmp_path, harm):
    for step in (1, 2):
        save(tmp_path, step)
    (tmp_path / "step-000003.part").mkdir()
    last, said = tmp_path / "step-000002", []
    {
        "shorter": lambda: (last / "a.bin").write_text("weigh"),
        "gone": lambda: (last / "a.bin").unlink(),
        "no state": lambda: (last / "state.json").unlink(),
        "half a state": lambda: (last / "state.json").write_text('{"done": '),
        "a flipped bit": lambda: flip_a_bit(last / "a.bin"),
        "a flipped bit in the state": lambda: flip_a_bit(last / "state.json"),
    }[harm]()
    assert newest_whole(tmp_path, said.append, 3) == tmp_path / "step-000001"
    assert len(said) == 2 and "step-000003.part" in said[0] and "step-000002" in said[1]


def test_a_checkpoint_beyond_the_records_is_passed_over(tmp_path):
    """What a power cut leaves of a run whose records were not on disk yet."""
    for step in (2, 4):
        save(tmp_path, step)
    said = []
    assert newest_whole(tmp_path, said.append, 3) == tmp_path / "step-000002"
    assert newest_whole(tmp_path, said.append, 1) is None
    assert "step-000004: the records end at step 3" in said[0]


def test_sizes_alone_of_older_checkpoints_are_enough(tmp_path):
    save(tmp_path, 1)
    file = tmp_path / "step-000001" / "state.json"
    file.write_text('{"done": 1, "files": {"a.bin": 7}}')
    assert damage(tmp_path / "step-000001") == ""


def test_no_checkpoint_is_none(tmp_path):
    assert newest_whole(tmp_path / "nowhere", print, 3) is None


def test_the_newest_few_and_the_best_are_kept(tmp_path):
    best = None
    for step in range(1, 8):
        save(tmp_path, step)
        best = {2: 2, 6: 6}.get(step, best)
        tidy(tmp_path, 2, best)
        kept = {step_of(p) for p in complete(tmp_path)}
        assert kept == {s for s in (step - 1, step, best) if s}
        if best:
            assert (tmp_path / "best" / "state.json").exists()
            assert json.loads((tmp_path / "best" / "state.json").read_text())["done"] == best


def test_a_full_disk_costs_one_checkpoint_with_a_clear_word(tmp_path):
    """The limit on the size of a file stands in for the disk: real, and any user may set it."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    problem, rest = done.stdout.splitlines()
    assert "step-000002" in problem and "too large" in problem
    assert rest == "['step-000001', 'step-000003'] ['', '']"


def test_writing_goes_on_beside_and_one_at_a_time(tmp_path):
    writer, order = BackgroundWriter(), []
    for step in (1, 2, 3):
        writer.begin(tmp_path / f"step-{step:06d}", lambda out, step=step: order.append(step), {})
    writer.wait()
    assert order == [1, 2, 3] and len(complete(tmp_path)) == 3
