"""The report's tables of evaluation: a row for each stage, a table for each split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from geoagent_rl.pages.charts import number
from geoagent_rl.pages.page import percent, render, whole
from geoagent_rl.pages.recorded import Recorded

STAGES = {
    "base": "before SFT",
    "sft": "after SFT",
    "sft_no_hedge": "after SFT, hedges banned (control)",
    "grpo": "after GRPO",
}
KINDS = {"sft_no_hedge": "control", "grpo": "final"}  # rows that look otherwise
KILOMETRES = ("1", "25", "200", "750", "2500")


HEADS = (
    *("n", "failed", *(f"≤\u00a0{km} km" for km in KILOMETRES), "median km", "mean km", "GeoScore"),
    *("valid format", "country right", "region right", "place right", "mean reward"),
)


def tables(run: Recorded) -> str:
    """Return the tables, with how much of the rise is only un-hedging."""
    shown = [_split(run.evaluation, name) for name in splits(run.evaluation)]
    return render("run_evaluation.html", splits=shown, heads=HEADS) if shown else ""


def _split(evaluation: Mapping[str, Any], name: str) -> dict[str, Any]:
    stages = {
        stage: evaluation[stage][name]
        for stage in stages_of(evaluation)
        if name in evaluation[stage]
    }
    scales = [m["geoscore_scale_km"] for m in stages.values() if "geoscore_scale_km" in m]
    return {
        "name": name,
        "scale": number(scales[0]) if scales else "",
        "rows": [(KINDS.get(s, ""), STAGES.get(s, s), _cells(m)) for s, m in stages.items()],
        "note": unhedging(stages),
    }


def _cells(m: Mapping[str, Any]) -> list[str]:
    shares = [m.get(key) for key in ("format_valid", "country_acc", "region_acc", "place_acc")]
    reward = m.get("reward_total")
    return [
        *(number(m.get(key, 0)) for key in ("n", "failed")),
        *(percent(m.get("hit", {}).get(km)) for km in KILOMETRES),
        *(whole(m.get(key)) for key in ("median_km", "mean_km", "geoscore")),
        *map(percent, shares),
        "–" if reward is None or not math.isfinite(reward) else f"{reward:,.2f}",
    ]


def unhedging(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how much of the rise after SFT the control reaches without training; "" where a stage
    is missing."""
    try:
        sft, control, grpo = (
            float(stages[s]["reward_total"]) for s in ("sft", "sft_no_hedge", "grpo")
        )
    except (KeyError, TypeError):
        return ""
    if not all(map(math.isfinite, (sft, control, grpo))) or grpo <= sft:
        return ""
    share = (control - sft) / (grpo - sft)
    return (
        f"Of the rise in mean reward from {sft:.2f} to {grpo:.2f}, {control - sft:+z.2f} ({share:z.0%}) is reached "
        "without any training by forbidding the SFT policy its hedging words; the rest is more than un-hedging."
    )


def stages_of(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the stages in the order of the method."""
    return [s for s in STAGES if s in evaluation] + sorted(set(evaluation) - set(STAGES))


def splits(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the splits of all stages."""
    return list(
        dict.fromkeys(split for stage in stages_of(evaluation) for split in evaluation[stage])
    )
