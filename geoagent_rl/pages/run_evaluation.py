"""The report's tables of evaluation: a row for each stage, a table for each split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from geoagent_rl.pages.charts import number
from geoagent_rl.pages.recorded import Recorded

STAGES = {
    "base": "before SFT",
    "sft": "after SFT",
    "sft_no_hedge": "after SFT, hedges banned (control)",
    "grpo": "after GRPO",
}
KILOMETRES = ("1", "25", "200", "750", "2500")


def tables(run: Recorded) -> str:
    """Return the tables, with how much of the rise is only un-hedging."""
    evaluation = run.evaluation
    out = []
    for split in splits(evaluation):
        stages = {
            stage: evaluation[stage][split]
            for stage in stages_of(evaluation)
            if split in evaluation[stage]
        }
        scale = next(
            (m["geoscore_scale_km"] for m in stages.values() if "geoscore_scale_km" in m), None
        )
        right = [f"{level}<br>right" for level in ("country", "region", "place")]
        heads = [
            "",
            "n",
            "failed",
            *(f"≤ {k}<br>km" for k in KILOMETRES),
            "median<br>km",
            "mean<br>km",
        ]
        heads += ["Geo-<br>Score", "valid<br>format", *right, "mean<br>reward"]
        about = (
            f' <span class="muted small">GeoScore scale {number(scale)} km</span>' if scale else ""
        )
        rows = "".join(_table_row(stage, m) for stage, m in stages.items())
        note = unhedging(stages)
        out.append(
            f'<div class="card wide"><h3>{escape(split)}{about}</h3><div class="scroll"><table><tr>'
            f"{''.join(f'<th>{h}</th>' for h in heads)}</tr>{rows}</table></div>"
            + (f'<p class="small">{escape(note)}</p>' if note else "")
            + "</div>"
        )
    if not out:
        return ""
    note = "Great-circle distance; an answer that cannot be located counts as a miss. GeoScore = 5000 exp(−d / scale)."
    return f'<h2>Evaluation</h2><p class="muted small">{note}</p>{"".join(out)}'


def _table_row(stage: str, m: Mapping[str, Any]) -> str:
    hit = m.get("hit", {})
    cells = [
        number(m.get("n", 0)),
        number(m.get("failed", 0)),
        *(_share(hit.get(k)) for k in KILOMETRES),
    ]
    cells += [
        _value(m.get("median_km"), 0),
        _value(m.get("mean_km"), 0),
        _value(m.get("geoscore"), 0),
    ]
    cells += [_share(m.get(k)) for k in ("format_valid", "country_acc", "region_acc", "place_acc")]
    cells.append(_value(m.get("reward_total"), 2))
    kind = {"sft_no_hedge": "control", "grpo": "final"}.get(stage, "")
    name = escape(STAGES.get(stage, stage))
    return f'<tr class="{kind}"><td>{name}</td>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'


def unhedging(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """How much of the rise after SFT the control reaches without training; "" where a stage is
    missing.
    """
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
        f"Of the rise in mean reward from {sft:.2f} to {grpo:.2f}, {control - sft:+.2f} ({share:.0%}) is reached "
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


def _share(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.1%}"


def _value(value: float | None, digits: int) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"
