"""The commands as a user runs them, in processes of their own: a run is scaled, looked at, stopped
and goes on.
"""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from cluster.monitor.attached import Attached
from tests.support.paths import CONFIGS
from tests.support.program import start
from tests.support.tiny_families import build

CONFIG = CONFIGS / "local.yaml"
SMALL = [
    "rollout.prompts_per_step=2",
    "rollout.group_size=2",
    "rollout.max_tokens=12",
    "scenes.train=4",
]
LIMIT_S = 300


def run_beside(*words: str) -> str:
    process = start(*words)
    printed, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    return printed


def scale_on_the_page(run: Path, service: str, replicas: int) -> None:
    """What the monitor's buttons do, and what its page shows then."""
    attached, asked, stop = Attached(str(run)), False, time.monotonic() + LIMIT_S
    try:
        while attached.seen.get("services", {}).get(service, {}).get("replicas") != {
            "RUNNING": replicas
        }:
            assert time.monotonic() < stop, attached.seen
            if not asked and attached.seen.get("services"):
                attached.scale(service, replicas)
                asked = True
            time.sleep(0.2)
    finally:
        attached.close()


def steps_of(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    return (
        [json.loads(line)["step"] for line in file.read_text().splitlines()]
        if file.exists()
        else []
    )


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    """Of a family that the demo does not have."""
    return Path(build("internvl", tmp_path_factory.mktemp("policy")))


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_run_is_scaled_and_looked_at_ctrl_c_saves_and_leaves_no_process_and_resume_goes_on(
    policy, judge, tmp_path
):
    run = tmp_path / "run"
    words = ["train", "--config", str(CONFIG), f"policy.model={policy}", f"run.dir={run}", *SMALL]
    words += judge
    process = start(*words, "steps=1000", "run.save_every=1000")
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("step 2/"):
            break
    assert "geocoder: 2 replicas after" in run_beside("scale", "geocoder=2", "--run", str(run))
    found = json.loads(run_beside("status", "--run", str(run), "--json"))
    assert (
        found["services"]["geocoder"]["replicas"] == {"RUNNING": 2} and found["step"]["step"] >= 2
    )
    assert any(name.startswith("rollout-") for name in found["actors"])
    scale_on_the_page(run, "geocoder", 1)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, "".join(said) + errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert not alive
    done = steps_of(run)
    saved = int(re.search(r"step-(\d+)", errors).group(1))
    assert done == list(range(1, saved + 1)) and saved >= 2

    resumed = start(*words, f"steps={saved + 1}", "--resume")
    _, errors = resumed.communicate(timeout=LIMIT_S)
    assert resumed.returncode == 0, errors
    assert steps_of(run) == list(range(1, saved + 2))
    assert (run / "policy" / "config.json").exists() and (run / "report.html").exists()


def test_a_second_run_in_the_same_directory_is_refused_in_one_line(policy, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    begin = time.monotonic()
    process = start(
        "train", "--config", str(CONFIG), f"policy.model={policy}", f"run.dir={tmp_path}"
    )
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    *before, last = errors.splitlines()  # what the start says, then the one line
    assert last.startswith("error: ") and "--resume" in last
    assert not any("error" in line or "Traceback" in line for line in before)
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "rolout.engines=2"], "rollout.engines"),
        (["train", "data.manifest=no/such/folder"], "no/such/folder"),
        (["eval", "score", "no.csv"], "no.csv"),
        (["predict", "no.jpg", "--model", "."], "no.jpg"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(words, says, tmp_path):
    if words[0] == "train":
        words = [*words, "--config", str(CONFIG), f"run.dir={tmp_path}/run"]
    process = start(*words)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert (
        errors.strip().splitlines()[-1].startswith("error: ")
        and says in errors
        and "Traceback" not in errors
    )
