"""The run that the fault campaign hurts: `geoagent-rl train` as a process, what it says and writes,
what Serve says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cluster.local_nodes import QUICK, LocalCluster
from tests.support.paths import ROOT

PROMPTS, GROUP = 4, 4
SIZES = [
    f"rollout.prompts_per_step={PROMPTS}",
    f"rollout.group_size={GROUP}",
    "scenes.train=96",
    "steps=400",
]
# Reward nodes have no CPUs, so that nothing but reward workers runs on them.
CARE = [
    "run.save_every=2",
    "reward.geocoder.nodes=reward_node",
    "reward.geocoder.cpus_per_replica=0",
]
REPLICAS = 2
WAIT_S, POLL_S = 180.0, 0.2


class Run:
    """`geoagent-rl train` on the cluster, its output with times, and its records."""

    def __init__(self, cluster: LocalCluster, folder: Path, overrides: list[str]) -> None:
        self.folder, self.lines = folder, []
        words = [
            "train",
            "--config",
            "configs/local.yaml",
            f"run.dir={folder}",
            *SIZES,
            *CARE,
            *overrides,
        ]
        words.append(f"reward.geocoder.replicas={REPLICAS}")
        env = {**os.environ, **QUICK, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "from cluster.cli.main import main; main()", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env,
                                        cwd=ROOT)  # fmt: skip
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip()))
            print(f"    {line.rstrip()}", file=sys.stderr, flush=True)

    def said(self, what: str, since: float) -> bool:
        return any(what in line for when, line in list(self.lines) if when > since)

    def printed(self) -> list[tuple[float, int]]:
        """(when, step) of every step that it has reported; one that was done again is there
        twice.
        """
        return [
            (when, int(line.split()[1].split("/")[0]))
            for when, line in list(self.lines)
            if is_step(line)
        ]

    def steps(self) -> dict[int, dict]:
        file = self.folder / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return {row["step"]: row for row in map(json.loads, lines)}

    def samples(self) -> list[dict]:
        return [
            json.loads(line) for line in (self.folder / "rollouts.jsonl").read_text().splitlines()
        ]

    def last(self) -> int:
        return max(self.steps(), default=0)

    def until(self, what: str, true: Callable[[], bool], seconds: float = WAIT_S) -> None:
        begin = time.monotonic()
        while not true():
            if self.process.poll() is not None:
                raise SystemExit(
                    f"the run ended with {self.process.returncode} while waiting for {what}"
                )
            if time.monotonic() - begin > seconds:
                raise SystemExit(f"{what} did not happen within {seconds:g} s")
            time.sleep(POLL_S)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            print("FAILED: the run did not stop within 90 s of SIGINT", file=sys.stderr)


def is_step(line: str) -> bool:
    """Of the live line "step 3/400: ...", not of "step 3: best validation ..."."""
    word = line.split()[1] if line.startswith("step ") else ""
    return word.split("/")[0].isdecimal() and "/" in word


def title(process: psutil.Process) -> str:
    """What of its command line names it; "" when it is gone."""
    try:
        words = " ".join(process.cmdline())
        return "" if process.status() == psutil.STATUS_ZOMBIE else words.split(" --")[0]
    except psutil.Error:
        return ""


def running(part: str, number: int) -> bool:
    """Whether Serve has so many replicas of the run's application, all of them able to answer."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        found = [app for name, app in serve.status().applications.items() if name.endswith(part)]
    except (RayError, RayServeException, TimeoutError):  # its controller is away
        return False
    states = [d.replica_states for app in found for d in app.deployments.values()]
    return [{state: n for state, n in counts.items() if n} for counts in states] == [
        {"RUNNING": number}
    ]
