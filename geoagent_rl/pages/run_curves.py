"""The report's curves: the reward part by part, and how learning went."""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.metrics.table import describe, parts_measured
from geoagent_rl.pages.charts import curve
from geoagent_rl.pages.page import render
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
    total = points_of(run.metrics, "reward_total_mean")
    names = parts_measured(dict.fromkeys(name for row in run.metrics for name in row))
    parts = [
        _card(points_of(run.metrics, f"reward_{p}_mean"), p.replace("_", " "), part_color(i))
        for i, p in enumerate(names)
    ]
    others = {"SFT loss": points_of(run.sft, "loss")}
    for key, label in OTHER_CURVES.items():
        others[f"{label} ({describe(key)[0]})"] = points_of(run.metrics, key)
    return render(
        "run_curves.html",
        total=_card(total, "total reward", "var(--total)", WIDE, None) if total else None,
        parts=parts,
        others=[_card(points, label, OTHER) for label, points in others.items() if points],
    )


def _card(
    points: Sequence[tuple[float, float]],
    label: str,
    color: str,
    size: tuple[int, int] = SMALL,
    floor: float | None = 0.0,
) -> dict[str, str]:
    change = change_of(points)
    known = change and len(points) >= 2 * ENDS and color != OTHER
    ends = f"{change[0]:.2f} → {change[1]:.2f}" if change and known else ""
    drawn = curve(points, label, color, size, floor)
    return {"label": label, "color": color, "ends": ends, "drawn": drawn}
