"""A run whose engine and learner are killed goes on by itself, and can be scaled and looked at meanwhile."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest
from test_jobs import CONFIG, LIMIT_S, SMALL, start, steps_of
from tiny_random import build

from cluster.monitor.attached import Attached


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
    attached, asked, stop = Attached(str(run)), False, time.monotonic() + LIMIT_S
    try:
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
    process = start(*words, "steps=1000", "run.save_every=2")
    tree, said, seen, again = psutil.Process(process.pid), [], "", False
    for line in process.stderr:
        said.append(line)
        if line.startswith("step 1/"):
            kill(tree, "RolloutEngine")
        elif line.startswith("step 3/"):
            assert "geocoder: 2 replicas after" in run_beside("scale", "geocoder=2", "--run", str(run))
            seen = run_beside("status", "--run", str(run), "--json")
            scale_on_the_page(run, "geocoder", 1)
            kill(tree, "LearnerRank")
        again = again or "starting the learner again (1 of 5)" in line
        if again and line.startswith("step "):
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, "".join(said) + rest
    assert sum("starting it again (1 of 5)" in line for line in said) == 1
    steps = steps_of(run)
    assert steps == list(range(1, len(steps) + 1))
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    samples = {(row["step"], row["uid"], row["index"]) for row in rows}
    assert len(rows) == len(samples) == len(steps) * 2 * 2
    assert all(row["total"] is not None for row in rows)
    found = json.loads(seen)
    assert found["services"]["geocoder"]["replicas"] == {"RUNNING": 2} and found["step"]["step"] >= 3
    assert any(name.startswith("rollout-") for name in found["actors"])
