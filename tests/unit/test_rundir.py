import json

import pytest

from geoagent_rl import config as configuration
from geoagent_rl.rundir import RunDir
from geoagent_rl.types import Group, Outcome, Prompt, Rollout, ScoredRollout, Truth, UserError

PROMPT = Prompt("p", "/p.png", Truth("Japan", "Tōkyō", "", 1.0, 2.0))
ROLLOUT = Rollout("p", 0, (1,), (2,), (-0.5,), "<answer>日本</answer>", "stop", 3)
GROUP = Group(PROMPT, (ScoredRollout(ROLLOUT, {"format": Outcome("data", 0.0, "no <think>")}, 0.0),), (0.0,))


def make(tmp_path, resume=False):
    return RunDir.create(configuration.load(None, ["data.manifest=x", f"run.dir={tmp_path}/run"]), resume)


def test_two_runs_never_share_a_directory(tmp_path):
    make(tmp_path).append("metrics.jsonl", [{"step": 1}])
    with pytest.raises(UserError, match="already holds a run"):
        make(tmp_path)
    assert make(tmp_path, resume=True).rows("metrics.jsonl") == [{"step": 1}]


def test_resuming_nothing_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing to resume"):
        make(tmp_path, resume=True)


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
    assert row["parts"]["format"] == {"kind": "data", "score": 0.0, "reason": "no <think>", "details": {}}


def test_truncate_forgets_only_later_steps(tmp_path):
    run = make(tmp_path)
    for step in (1, 2, 3):
        run.record_step({"step": step}, [GROUP])
    run.truncate(2)
    assert [r["step"] for r in run.rows("metrics.jsonl")] == [r["step"] for r in run.rows("rollouts.jsonl")] == [1, 2]


def test_keep_last_keeps_the_newest_and_ignores_torn_checkpoints(tmp_path):
    run = make(tmp_path)
    for name in ("step-000010", "step-000020", "step-000030", "step-000040.part"):
        (run.path / "checkpoints" / name).mkdir()
    assert [p.name for p in run.checkpoints()] == ["step-000010", "step-000020", "step-000030"]
    run.keep_last(2)
    assert [p.name for p in run.checkpoints()] == ["step-000020", "step-000030"]


def test_evaluations_accumulate(tmp_path):
    run = make(tmp_path)
    run.record_eval("base", "heldout", {"n": 1})
    run.record_eval("base", "hidden", {"n": 2})
    run.record_eval("sft", "heldout", {"n": 3})
    table = json.loads((run.path / "eval.json").read_text())
    assert table == {"base": {"heldout": {"n": 1}, "hidden": {"n": 2}}, "sft": {"heldout": {"n": 3}}}
