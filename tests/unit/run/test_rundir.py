import errno
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from geoagent_rl import config as configuration
from geoagent_rl.run import directory
from geoagent_rl.run.directory import RunDir, given_id, run_id_of
from geoagent_rl.types import Group, Outcome, Prompt, Rollout, ScoredRollout, Truth, UserError

PROMPT = Prompt("p", "/p.png", Truth("Japan", "Tōkyō", "", 1.0, 2.0))
ROLLOUT = Rollout("p", 0, (1,), (2,), (-0.5,), "<answer>日本</answer>", "stop", 3)
GROUP = Group(
    PROMPT, (ScoredRollout(ROLLOUT, {"format": Outcome("data", 0.0, "no <think>")}, 0.0),), (0.0,)
)

HOLD = """
import sys
from geoagent_rl.run.directory import RunDir
with RunDir(sys.argv[1]).exclusive():
    print("held", flush=True)
    sys.stdin.read()
"""
FULL = """
import resource, sys
from geoagent_rl.run.directory import RunDir
run = RunDir(sys.argv[1])
row = {"step": 1, "text": "x" * 3000}
run.append("rollouts.jsonl", [row])
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limit[1]))
run.append("rollouts.jsonl", [row, row])
assert run.rows("rollouts.jsonl") == [row] and run.waiting
print(*run.take_problems())
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
run.append("rollouts.jsonl", [])
assert run.rows("rollouts.jsonl") == [row] * 3 and not run.waiting and not run.take_problems()
"""


def make(tmp_path):
    config = configuration.load(None, ["data.manifest=x", f"run.dir={tmp_path}/run"])
    return RunDir(config.run.dir).begin(config)


def test_a_step_is_recorded_whole(tmp_path):
    run = make(tmp_path)
    run.record_step({"step": 4, "loss": 0.1}, [GROUP])
    (row,) = run.rows("rollouts.jsonl")
    assert (row["step"], row["version"], row["text"], row["truth"]["region"]) == (
        4,
        3,
        "<answer>日本</answer>",
        "Tōkyō",
    )
    assert row["parts"]["format"] == {
        "kind": "data",
        "score": 0.0,
        "reason": "no <think>",
        "details": {},
    }


def test_truncate_forgets_only_later_steps(tmp_path):
    run = make(tmp_path)
    for step in (1, 2, 3):
        run.record_step({"step": step}, [GROUP])
    run.truncate(2)
    assert (
        [r["step"] for r in run.rows("metrics.jsonl")]
        == [r["step"] for r in run.rows("rollouts.jsonl")]
        == [1, 2]
    )


def test_a_line_that_a_kill_cut_off_is_no_line(tmp_path):
    run = make(tmp_path)
    for step in (1, 2, 3):
        run.record_step({"step": step}, [GROUP])
    whole = (run.path / "rollouts.jsonl").read_bytes()
    cut = whole[: whole.index("日".encode()) + 1]
    for name, data in (("metrics.jsonl", b'{"step": 4, "lo'), ("rollouts.jsonl", cut)):
        with (run.path / name).open("ab") as file:
            file.write(data)
    run.truncate(3)
    assert [r["step"] for r in run.rows("metrics.jsonl")] == [1, 2, 3]
    assert (run.path / "rollouts.jsonl").read_bytes() == whole


def test_truncate_removes_later_and_torn_checkpoints(tmp_path):
    run = make(tmp_path)
    for name in ("step-000010", "step-000020", "step-000030", "step-000030.part", "sft"):
        (run.path / "checkpoints" / name).mkdir()
    run.truncate(20)
    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == [
        "sft",
        "step-000010",
        "step-000020",
    ]


def test_truncate_removes_what_killed_writers_left_of_anything(tmp_path):
    run = make(tmp_path)
    (run.path / "predictions").mkdir()
    (run.path / "checkpoints" / "best.01234567.part").symlink_to("step-000010")
    for name in ("eval.json.0123abcd.part", "predictions/grpo-eval.jsonl.0123abcd.part"):
        (run.path / name).write_text("{")
    (run.path / "policy.0123abcd.part").mkdir()
    run.truncate(0)
    assert not list(run.path.rglob("*.part"))


def test_the_best_validation_is_the_first_of_the_highest(tmp_path):
    run = make(tmp_path)
    assert run.best() == (None, -math.inf)
    rewards = {2: 0.5, 3: 0.7, 4: 0.7, 5: math.nan}
    run.append("metrics.jsonl", [{"step": 1}])
    run.append("metrics.jsonl", ({"step": s, "validation_reward": r} for s, r in rewards.items()))
    assert run.best() == (3, 0.7)


def test_only_one_process_works_in_a_directory(tmp_path):
    run = make(tmp_path)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another process"), run.exclusive():
        pass
    other.kill()
    other.communicate()
    with run.exclusive():
        pass


def test_lines_that_a_full_disk_does_not_take_wait_for_room(tmp_path):
    """The limit on the size of a file stands in for the disk: real, and any user may set it."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 lines wait" in done.stdout


def test_a_disk_that_stays_full_ends_the_run_before_memory_does(tmp_path, monkeypatch):
    monkeypatch.setattr(directory, "MAX_WAITING", 1000)
    run = make(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(directory.Path, "open", full)
    for _ in range(5):
        run.append("rollouts.jsonl", [{"text": "x" * 180}])
    with pytest.raises(UserError, match="6 lines wait in memory; make room, then resume"):
        run.append("rollouts.jsonl", [{"text": "x" * 180}])


def test_a_directory_without_a_run_is_as_it_was(tmp_path):
    new, mine = RunDir(tmp_path / "a" / "b"), RunDir(tmp_path / "mine")
    mine.path.mkdir()
    (mine.path / "notes.txt").write_text("mine")
    for run in (new, mine):
        with pytest.raises(KeyError), run.exclusive():
            (run.path / "data").mkdir()
            raise KeyError
    assert not (tmp_path / "a").exists()
    assert (mine.path / "notes.txt").read_text() == "mine"


def test_no_two_runs_have_the_same_names_on_a_cluster(tmp_path):
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    before = run_id_of(run)  # of a directory that an older version began
    mine = given_id(run)
    assert given_id(run) == run_id_of(run) == mine != before
    shutil.copytree(run, copy)
    (run / ".id").unlink()  # as at the same path on another machine's disk
    assert len({mine, given_id(copy), given_id(run)}) == 3 and {len(mine), len(before)} == {16}


def test_a_configuration_that_says_the_same_is_left_alone(tmp_path):
    run = make(tmp_path)
    file = run.path / "config.yaml"
    file.write_text("# a note of mine\n" + file.read_text())
    before = file.read_bytes()
    make(tmp_path)
    assert file.read_bytes() == before


def test_evaluations_accumulate(tmp_path):
    run = make(tmp_path)
    run.record_eval("base", "heldout", {"n": 1})
    run.record_eval("base", "hidden", {"n": 2})
    run.record_eval("sft", "heldout", {"n": 3})
    table = json.loads((run.path / "eval.json").read_text())
    assert table == {
        "base": {"heldout": {"n": 1}, "hidden": {"n": 2}},
        "sft": {"heldout": {"n": 3}},
    }


def test_a_run_is_done_only_when_its_policy_is_on_disk(tmp_path, monkeypatch):
    run, synced = make(tmp_path), []
    (run.path / "policy").mkdir()
    (run.path / "policy" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(os, "fsync", lambda f: synced.append(Path(f"/proc/self/fd/{f}").readlink()))
    run.finish(3)
    first = [path.name for path in synced[:2]]
    assert first == ["model.safetensors", "policy"] and "done.json." in synced[2].name
