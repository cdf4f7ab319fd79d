"""Does the Uncertainty field (Low, Medium, High, per stage) say how far off the answer is?

For each stage: errors by stated uncertainty, and the concordance: of two photographs with different
statements, how often the less certain one is farther off (0.5: the field says nothing; 1: it orders
the errors perfectly)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoagent_rl.answers.parse import UNCERTAINTIES
from geoagent_rl.evaluation.predictions import Predictions

STAGES = {
    "country": 750,
    "region": 200,
    "place": 25,
}  # the kilometres at which an answer of this level counts as right


def calibration(predictions: Predictions) -> dict[str, Any]:
    """Return {stage: {"right_within_km", "concordance", "by": {Low: {n, right, median_km}, ...}}};
    {} without the field.

    A failed prediction has no stages as a rule; one that has counts as wrong and farthest.
    """
    out = {}
    km = predictions.km
    for stage, limit in STAGES.items():
        said = predictions.columns.get(f"uncertainty_{stage}")
        if said is None or not any(value in UNCERTAINTIES for value in said):
            continue
        rank = np.array([UNCERTAINTIES.index(v) if v in UNCERTAINTIES else -1 for v in said])
        by = {}
        for level, name in enumerate(UNCERTAINTIES):
            of_level = km[rank == level]
            if len(of_level):
                middle = float(np.median(of_level))
                by[name] = {"n": len(of_level), "right": float((of_level <= limit).mean()),
                            "median_km": middle if np.isfinite(middle) else None}  # fmt: skip
        stated = rank >= 0
        out[stage] = {
            "right_within_km": limit,
            "concordance": concordance(rank[stated], km[stated]),
            "by": by,
        }
    return out


def concordance(rank: NDArray[np.int64], km: NDArray[np.float64]) -> float | None:
    """Return the share of pairs with different ranks whose errors are in the same order (ties
    half); None without such pairs."""
    agree = pairs = 0.0
    for low in range(len(UNCERTAINTIES)):
        for high in range(low + 1, len(UNCERTAINTIES)):
            sure, doubtful = np.sort(km[rank == low]), km[rank == high]
            smaller = np.searchsorted(sure, doubtful, side="left")
            equal = np.searchsorted(sure, doubtful, side="right") - smaller
            agree += float(smaller.sum() + equal.sum() / 2)
            pairs += len(sure) * len(doubtful)
    return agree / pairs if pairs else None
