"""The report's curves: the reward part by part, and how learning went."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from geoagent_rl.metrics.table import describe, parts_measured
from geoagent_rl.pages.charts import curve
from geoagent_rl.pages.recorded import ENDS, Recorded, change_of, points_of
from geoagent_rl.pages.rollout_cards import part_color

OTHER_CURVES = {
    "kl": "KL to reference", "entropy": "entropy", "completion_tokens_mean": "completion length",
    "data_failure_share": "faulty answers", "step_seconds": "step time", "reward_exposed_seconds": "waited for rewards",
}  # fmt: skip
OTHER = "var(--other)"
SMALL, WIDE = (250, 150), (1040, 240)  # SVG units, about the pixels shown


def curves(run: Recorded) -> str:
    """Return the curves of Step II and Step III."""
    metrics, sft = run.metrics, run.sft
    out = []
    total = points_of(metrics, "reward_total_mean")
    if total:
        out.append(
            f'<div class="wide">{_curve(total, "total reward", "var(--total)", WIDE)}</div><div class="curves">'
        )
        for i, part in enumerate(parts_measured(dict.fromkeys(n for row in metrics for n in row))):
            points = points_of(metrics, f"reward_{part}_mean")
            out.append(_curve(points, part.replace("_", " "), part_color(i), floor=0.0))
        out.append("</div>")
    others = [
        (points_of(metrics, key), f"{label} ({describe(key)[0]})")
        for key, label in OTHER_CURVES.items()
    ]
    others.insert(0, (points_of(sft, "loss"), "SFT loss"))
    shown = [_curve(points, label, OTHER, floor=0.0) for points, label in others if points]
    if shown:
        out.append(f'<h2>Training</h2><div class="curves">{"".join(shown)}</div>')
    note = "Dots: batch mean of each GRPO step, before weighting (total: weighted). Line: average over 5 steps."
    head = f'<h2>Reward by component</h2><p class="muted small">{note}</p>' if total else ""
    return head + "".join(out)


def _curve(
    points: Sequence[tuple[float, float]],
    label: str,
    color: str,
    size: tuple[int, int] = SMALL,
    floor: float | None = None,
) -> str:
    change = change_of(points)
    ends = (
        f"{change[0]:.2f} → {change[1]:.2f}"
        if change and len(points) >= 2 * ENDS and color != OTHER
        else ""
    )
    swatch = f'<i class="swatch" style="--c:{color}"></i>'
    svg = curve(points, label, color, size, floor)
    return f'<div class="card"><div class="head"><h3>{swatch}{escape(label)}</h3><span>{ends}</span></div>{svg}</div>'
