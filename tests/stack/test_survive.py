"""A run whose engine and learner are killed goes on by itself, and can be scaled and looked at meanwhile."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest
from test_jobs import CONFIG, LIMIT_S, SMALL, start, steps_of
from tiny_random import build

from cluster.monitor.attached import Attached

STEPS = 8


def kill(tree: psutil.Process, title: str) -> None:
    found = [p for p in tree.children(recursive=True) if " ".join(p.cmdline()).startswith(f"ray::{title}")]
    assert len(found) == 1, f"{len(found)} processes of {title}"
    found[0].kill()


def run_beside(*words: str) -> str:
    process = start(*words)
    printed, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    return printed


def scale_on_the_page(run: Path, service: str, replicas: int) -> None:
    """What the monitor's buttons do, and what its page shows then."""
    attached, stop = Attached(str(run)), time.monotonic() + LIMIT_S
    try:
        asked = False
        while attached.seen.get("services", {}).get(service, {}).get("replicas") != {"RUNNING": replicas}:
            assert time.monotonic() < stop, attached.seen
            if not asked and attached.seen.get("services"):
                attached.scale(service, replicas)
                asked = True
            time.sleep(0.2)
    finally:
        attached.close()


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_killed_engine_and_a_killed_learner_cost_no_sample(tmp_path):
    policy, run = Path(build(tmp_path / "policy", hidden=128)), tmp_path / "run"
    words = ["train", "--config", str(CONFIG), f"policy.model={policy}", f"run.dir={run}", *SMALL]
    process = start(*words, f"steps={STEPS}", "run.save_every=2")
    tree, said, seen = psutil.Process(process.pid), [], ""
    for line in process.stderr:
        said.append(line)
        if line.startswith("step 1/"):
            kill(tree, "RolloutEngine")
        elif line.startswith("step 3/"):
            assert "geocoder: 2 replicas after" in run_beside("scale", "geocoder=2", "--run", str(run))
            seen = run_beside("status", "--run", str(run), "--json")
            scale_on_the_page(run, "geocoder", 1)
        elif line.startswith("step 5/") and sum(earlier.startswith("step 5/") for earlier in said) == 1:
            kill(tree, "LearnerRank")
    assert process.wait(LIMIT_S) == 0, "".join(said)
    assert [sum(f"starting {it} again (1 of 5)" in line for line in said) for it in ("it", "the learner")] == [1, 1]
    assert steps_of(run) == list(range(1, STEPS + 1))
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    samples = {(row["step"], row["uid"], row["index"]) for row in rows}
    assert len(rows) == len(samples) == STEPS * 2 * 2
    assert all(row["total"] is not None for row in rows)
    found = json.loads(seen)
    assert found["services"]["geocoder"]["replicas"] == {"RUNNING": 2} and found["step"]["step"] >= 3
    assert any(name.startswith("rollout-") for name in found["actors"])
