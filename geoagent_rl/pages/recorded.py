"""What a run has recorded, as the sections of its report read it; what is absent is empty."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoagent_rl.pages.rollout_cards import RecordedRow
from geoagent_rl.run.directory import CONFIG, settings_in
from geoagent_rl.run.records import read_rows, record
from geoagent_rl.types import UserError

LATE_STEPS = 5  # rollouts of the last few steps stand for the trained policy
ENDS = 5  # steps averaged at each end of a curve


@dataclass(frozen=True)
class Recorded:
    """The files of a run directory (run/directory.py)."""

    path: Path
    config: Mapping[str, Any]
    metrics: Sequence[RecordedRow]  # metrics.jsonl
    sft: Sequence[RecordedRow]  # sft_metrics.jsonl
    evaluation: Mapping[str, Any]  # eval.json: {stage: {split: figures}}
    early: Sequence[RecordedRow]  # rollouts of the first step
    late: Sequence[RecordedRow]  # and of the last LATE_STEPS steps


def read(run: Path) -> Recorded:
    """Return what a run has recorded. Raises UserError where there is nothing to show."""
    metrics, evaluation = list(read_rows(run / "metrics.jsonl")), _json(run / "eval.json")
    if not metrics and not evaluation:
        raise UserError(f"{run} holds neither metrics.jsonl nor eval.json; give a run directory")
    early, late = ends_of(read_rows(run / "rollouts.jsonl"))
    sft = list(read_rows(run / "sft_metrics.jsonl"))
    file = run / CONFIG
    config = settings_in(file.read_bytes()) if file.is_file() else {}
    return Recorded(run, config, metrics, sft, evaluation, early, late)


def ends_of(rows: Iterable[RecordedRow]) -> tuple[list[RecordedRow], list[RecordedRow]]:
    """Return the rollouts of the first step and of the last LATE_STEPS steps; memory does not grow
    with the run.
    """
    early: list[RecordedRow] = []
    late: deque[list[RecordedRow]] = deque(maxlen=LATE_STEPS)
    for row in rows:
        if not late or late[-1][0]["step"] != row["step"]:
            late.append([])
        late[-1].append(row)
        if row["step"] == (early[0]["step"] if early else row["step"]):
            early.append(row)
    return early, [row for step in late for row in step]


def points_of(rows: Sequence[RecordedRow], key: str) -> list[tuple[float, float]]:
    """Return (step, value) of every row that has a finite number under `key`."""
    found = ((row.get("step", i + 1), row.get(key)) for i, row in enumerate(rows))
    return [(x, y) for x, y in found if isinstance(y, (int, float)) and math.isfinite(y)]


def change_of(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Return the means of the first and of the last ENDS values; None without any."""
    values = [y for _, y in points]
    first, last = values[:ENDS], values[-ENDS:]
    return (math.fsum(first) / len(first), math.fsum(last) / len(last)) if values else None


def setting(config: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key; None where it is not known."""
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _json(path: Path) -> dict[str, Any]:
    return (record(path.read_bytes()) or {}) if path.is_file() else {}
