"""What the monitor says a run is doing, from its lock and its files; and what it warns of."""

import math
import time

import pytest

from cluster.monitor.runs import Run
from cluster.monitor.state import STALLED_S, alerts, locked, status_of
from cluster.monitor.tail import Steps
from tests.support.monitor_runs import new_run, photograph, record


def checkpoint(run, step):
    folder = run.checkpoint(step)
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")


def test_the_status_follows_the_lock_the_checkpoints_and_the_end(tmp_path):
    run = new_run(tmp_path)
    with run.exclusive():
        assert status_of(run.path, 0) == "running" and locked(run.path)
    assert status_of(run.path, 0) == "begun" and not locked(run.path)
    record(run, photograph(tmp_path / "photos"), range(1, 4))
    assert status_of(run.path, 3) == "crashed"
    checkpoint(run, 2)
    assert status_of(run.path, 3) == "crashed"
    checkpoint(run, 3)
    assert status_of(run.path, 3) == "saved"
    run.finish(3)
    assert status_of(run.path, 3) == "finished"
    with run.exclusive():  # resumed with more steps
        assert status_of(run.path, 3) == "running"


def test_looking_does_not_take_the_lock(tmp_path):
    run = new_run(tmp_path)
    assert not locked(run.path)
    with run.exclusive():
        pass


def test_the_time_left_is_that_of_the_steps_left(tmp_path):
    run = new_run(tmp_path, steps=10)
    run.append("metrics.jsonl", [{"step": s, "step_seconds": 3.0} for s in range(1, 5)])
    with run.exclusive():
        found = Run(run.path).summary()
    assert (found["step"], found["steps"], found["eta_seconds"]) == (4, 10, 18.0)
    assert math.isnan(Run(run.path).summary()["eta_seconds"])


FINE = {"loss": 0.1, "reward_total_mean": 1.0, "kl": 0.1, "zero_variance_share": 0.1, "unscorable_share": 0.0,
        "data_failure_share": 0.0, "truncated_share": 0.0, "step_seconds": 2.0, "steps_skipped": 0}  # fmt: skip


def levels(tmp_path, status="running", silent=0.0, **last):
    run = new_run(tmp_path)
    rows = [FINE, FINE, *[FINE | last] * 5]
    run.append("metrics.jsonl", [row | {"step": i + 1} for i, row in enumerate(rows)])
    steps = Steps(run.path / "metrics.jsonl")
    steps.refresh()
    found = alerts(steps, status, time.time() - silent, Run(run.path).setting)
    order = [one["level"] for one in found]
    assert order == sorted(order, key=("bad", "warn", "ok", "").index)
    return {one["name"]: one["level"] for one in found}


def test_a_healthy_run_has_no_alert(tmp_path):
    assert set(levels(tmp_path).values()) == {"ok"}


@pytest.mark.parametrize(
    ("last", "name", "level"),
    [
        ({"kl": 1.0}, "KL to the reference", "warn"),
        ({"kl": 5.0}, "KL to the reference", "bad"),
        ({"zero_variance_share": 0.9}, "Groups without variance", "bad"),
        ({"unscorable_share": 0.02}, "Unscorable samples", "warn"),
        ({"unscorable_share": 0.5}, "Unscorable samples", "bad"),
        ({"loss": float("nan")}, "Not finite", "bad"),
        ({"steps_skipped": 2}, "Not finite", "warn"),
        ({"truncated_share": 0.2}, "Answers cut off", "warn"),
        ({"data_failure_share": 0.9}, "Faulty answers", "bad"),
    ],
)
def test_what_went_wrong_late_is_said(tmp_path, last, name, level):
    found = levels(tmp_path, **last)
    assert found.pop(name) == level and set(found.values()) == {"ok"}


def test_only_a_run_that_goes_on_can_stall(tmp_path):
    assert levels(tmp_path / "a", silent=2 * STALLED_S)["Stalled"] == "bad"
    assert levels(tmp_path / "b", silent=0.5 * STALLED_S)["Stalled"] == "ok"
    assert levels(tmp_path / "c", status="crashed", silent=2 * STALLED_S)["Stalled"] == ""
