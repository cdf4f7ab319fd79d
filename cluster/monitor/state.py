"""What a run is doing, by its directory alone: running, saved, crashed, finished; and what somebody
should look at.

The process of a run holds its lock (run/directory.py), however it ends, so a lock that is free and
no done.json mean that the run was stopped. May know files, nothing of HTTP."""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cluster.monitor.tail import Steps
from geoagent_rl.run.checkpoints import step_of
from geoagent_rl.run.directory import LOCK, RunDir

RECENT = 20  # steps that the time of one is taken from
LATE = 5  # steps whose mean a warning looks at
STALLED_S = 120.0  # at the least without a step
STALLED_STEPS = 5.0  # and so many times what a step takes


def locked(run: Path) -> bool:
    """Return whether a process works in a run directory. Holds its lock for microseconds, shared,
    so a run that starts in that moment is refused: this happens about never."""
    try:
        descriptor = os.open(run / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def status_of(run: Path, steps: int) -> str:
    """Return running, finished, saved (stopped, all steps are in a checkpoint), crashed (stopped,
    some are not) or begun (stopped before the first step).
    """
    if locked(run):
        return "running"
    recorded = RunDir(run)
    if recorded.finished_steps():
        return "finished"
    if not steps:
        return "begun"
    kept = recorded.checkpoints()
    return "saved" if kept and step_of(kept[-1]) >= steps else "crashed"


def step_seconds(steps: Steps) -> float:
    """Return what a step takes, the median of the last ones; NaN before the first."""
    found = recent(steps, "step_seconds", RECENT)
    return median(found) if len(found) else math.nan


def recent(steps: Steps, name: str, count: int = LATE) -> list[float]:
    """Return the finite values among the last `count` of a metric."""
    values = np.array(steps.columns.get(name, ())[-count:])
    return [float(value) for value in values[np.isfinite(values)]]


@dataclass(frozen=True)
class Alert:
    """One thing that is looked at. level: ok, warn or bad; "": nothing is known of it."""

    name: str
    level: str
    says: str
    advice: str


Setting = Callable[[str], Any]


def alerts(steps: Steps, status: str, written: float, setting: Setting) -> list[dict[str, str]]:
    """Return every check of a run, those that found something first."""
    found = [
        _unscorable(steps, setting),
        _not_finite(steps),
        _stalled(steps, status, written),
        *(_late_mean(steps, *check) for check in MEANS),
    ]
    order = ("bad", "warn", "ok", "")
    return [asdict(alert) for alert in sorted(found, key=lambda alert: order.index(alert.level))]


# metric, name, warn above, bad above, what to do
MEANS = (
    ("kl", "KL to the reference", 0.5, 2.0,
     "lower learner.lr, or raise learner.kl_beta: far from its reference a policy forgets"),
    ("zero_variance_share", "Groups without variance", 0.5, 0.8,
     "such groups teach nothing: raise rollout.temperature or rollout.group_size, or draw harder photographs"),
    ("data_failure_share", "Faulty answers", 0.3, 0.7,
     "the policy does not keep the form: start from SFT, and read some failures under Rollouts"),
    ("truncated_share", "Answers cut off", 0.1, 0.4,
     "raise rollout.max_tokens: an answer that is cut off is scored as none"),
)  # fmt: skip


def _late_mean(steps: Steps, metric: str, name: str, warn: float, bad: float, advice: str) -> Alert:
    values = recent(steps, metric)
    if not values:
        return Alert(name, "", "not recorded", "")
    mean = math.fsum(values) / len(values)
    level = "bad" if mean > bad else "warn" if mean > warn else "ok"
    shown = f"{mean:.1%}" if metric.endswith("_share") else f"{mean:.3g}"
    return Alert(name, level, f"{shown} over the last {len(values)} steps", advice)


def _unscorable(steps: Steps, setting: Setting) -> Alert:
    name, values = "Unscorable samples", recent(steps, "unscorable_share")
    if not values:
        return Alert(name, "", "not recorded", "")
    mean, most = math.fsum(values) / len(values), setting("reward.max_unscorable_share")
    stops = isinstance(most, (int, float)) and mean > most / 2
    level = "bad" if stops else "warn" if mean > 0.01 else "ok"
    limit = f"; the run stops above {most:.0%}" if isinstance(most, (int, float)) else ""
    advice = "a reward service fails: see which part under Samples, its latency under Services"
    return Alert(name, level, f"{mean:.1%} over the last {len(values)} steps{limit}", advice)


def _not_finite(steps: Steps) -> Alert:
    name = "Not finite"
    advice = "lower learner.lr; see the gradient norm under Learning"
    loss, total = steps.columns.get("loss", ()), steps.columns.get("reward_total_mean", ())
    if not steps.rows or not len(loss):
        return Alert(name, "", "not recorded", "")
    broken = sum(
        not math.isfinite(a) and math.isfinite(b) for a, b in zip(loss, total, strict=False)
    )
    skipped = int(max(recent(steps, "steps_skipped", steps.rows), default=0))
    if not broken and not skipped:
        return Alert(name, "ok", "every loss is a number", advice)
    late = any(not math.isfinite(value) for value in loss[-LATE:]) or any(
        recent(steps, "step_skipped")
    )
    says = f"{broken} steps without a finite loss, {skipped} updates skipped"
    return Alert(name, "bad" if late else "warn", says, advice)


def _stalled(steps: Steps, status: str, written: float) -> Alert:
    name, each = "Stalled", step_seconds(steps)
    if status != "running":
        return Alert(name, "ok" if status == "finished" else "", f"the run is {status}", "")
    silent = time.time() - written
    limit = max(STALLED_S, STALLED_STEPS * each) if math.isfinite(each) else 10 * STALLED_S
    says = f"last step {silent:.0f} s ago" + (f", one takes {each:.0f} s" if each == each else "")
    advice = "see `geoagent-rl status`, and the services' latencies"
    return Alert(name, "bad" if silent > limit else "ok", says, advice)
