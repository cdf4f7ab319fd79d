"""What a run says at its end: what was learnt in three lines, and the commands that come next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoagent_rl.metrics.table import parts_measured
from geoagent_rl.pages.recorded import ENDS, change_of, points_of
from geoagent_rl.run.directory import RunDir

Change = tuple[float, float]
FIGURES = {"reward_total": "reward", "country_acc": "country right", "geoscore": "GeoScore"}


def closing(path: Path) -> str:
    """Return the lines for a run directory; what was not measured is not said."""
    run = RunDir(path)
    metrics, sft = run.rows("metrics.jsonl"), run.rows("sft_metrics.jsonl")
    lines = [*_training(metrics), *_cold_start(sft), *_held_out(run.evaluations(), bool(metrics))]
    return "\n".join([*lines, *_next(path, bool(metrics))])


def _training(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    reward = change_of(points_of(metrics, "reward_total_mean"))
    if reward is None:
        return []
    minutes = sum(row.get("step_seconds", 0.0) for row in metrics) / 60
    parts = {name: f"reward_{name}_mean" for name in parts_measured(metrics[-1])}
    changes = [(name, change_of(points_of(metrics, key))) for name, key in parts.items()]
    said = ", ".join(f"{name} {_arrow(change)}" for name, change in changes if change)
    return [
        f"learnt: training reward {_arrow(reward)} in {len(metrics)} steps, {minutes:.1f} min "
        f"(means of the first and last {min(ENDS, len(metrics))} steps)",
        f"by part: {said}",
    ]


def _cold_start(sft: Sequence[Mapping[str, Any]]) -> list[str]:
    loss = change_of(points_of(sft, "loss"))
    return [f"SFT: loss {_arrow(loss)} in {len(sft)} steps"] if loss else []


def _held_out(evaluations: Mapping[str, Any], trained: bool) -> list[str]:
    before, after = (evaluations.get(stage, {}) for stage in ("sft", "grpo"))
    split = next((name for name in after if name in before), "")
    if not split:
        return ["held-out photographs: not evaluated (data.eval_manifest)"] if trained else []
    tables = before[split], after[split]
    said = ", ".join(
        f"{label} {_arrow((tables[0][key], tables[1][key]))}"
        for key, label in FIGURES.items()
        if all(isinstance(table.get(key), (int, float)) for table in tables)
    )
    return [f"on {tables[1].get('n', 0)} held-out photographs, before and after: {said}"]


def _next(path: Path, trained: bool) -> list[str]:
    run = shlex.quote(str(path))
    lines = [f"next: geoagent-rl predict PHOTO --model {run}", f"      geoagent-rl monitor {run}"]
    if trained:
        lines.append(f"      geoagent-rl reward explain {run} --worst 5")
    return lines


def _arrow(change: Change) -> str:
    return f"{change[0]:.3f} -> {change[1]:.3f}"
