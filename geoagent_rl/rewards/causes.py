"""Why an answer earned less than it could: its points lost, by part of the reward and cause.

Reads recorded outcomes (rollouts.jsonl) and scores nothing. A part can earn its weight at best, one
of negative weight 0, so the losses of an answer add up to the maximum minus its total. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Details = Mapping[str, Any]  # of an answer or an outcome, as in rollouts.jsonl
KM = (25, 200, 750, 2500)  # city, region, country, continent: the thresholds of evaluation
NOISE = 1e-9  # points; sums of floats differ by less


@dataclass(frozen=True, slots=True)
class Loss:
    """Points that one cause cost an answer; `points` are in units of the total reward."""

    part: str
    cause: str
    points: float


def best_total(weights: Mapping[str, float]) -> float:
    """Return the largest total reward: the sum of the positive weights."""
    return math.fsum(weight for weight in weights.values() if weight > 0)


def losses(row: Details, weights: Mapping[str, float]) -> list[Loss]:
    """Return what an answer lost, by part and cause; [] for an unscorable one.

    row: of rollouts.jsonl. weights: of the parts in play. Where a part that is not required has
    failed, the others stand for it, as they do in the total (rewards/total.py).
    """
    if row["total"] is None:
        return []
    scores = {name: row["parts"][name]["score"] for name in weights}
    known = {name: score for name, score in scores.items() if score is not None}
    scale = 1.0
    if len(known) < len(weights):
        scale = sum(weights.values()) / sum(weights[name] for name in known)
    found = []
    for name, score in known.items():
        best = 1.0 if weights[name] > 0 else 0.0
        unit = scale * weights[name]
        for cause, share in _causes(name, row["parts"][name], best - score):
            found.append(Loss(name, cause, unit * share))
    return [loss for loss in found if abs(loss.points) > NOISE]


def _causes(name: str, part: Details, lost: float) -> Iterator[tuple[str, float]]:
    """Yield (cause, share of the part's weight); the shares add up to `lost`."""
    if part["kind"] == "data" or name not in SPLIT:
        yield part["reason"] or "scored below the best", lost
        return
    rest = lost
    for cause, share in SPLIT[name](part.get("details") or {}, lost):
        yield cause, share
        rest -= share
    yield "not explained by the details", rest


def _by_distance(details: Details, lost: float) -> Iterator[tuple[str, float]]:
    km = details.get("distance_km")
    if km is None:
        return
    passed = [limit for limit in KM if km > limit]
    if len(passed) == len(KM):
        yield f"more than {KM[-1]} km away", lost
    elif passed:
        yield f"{passed[-1]} to {KM[len(passed)]} km away", lost
    else:
        yield f"up to {KM[0]} km away", lost


def _by_level(details: Details, lost: float) -> Iterator[tuple[str, float]]:
    for row in details.get("levels", ()):
        if "counted" not in row:  # the truth does not name this level
            continue
        level, counted = row["level"], row["counted"]
        if counted:
            cause = f"{level}: a similar name"
        elif not row["predicted"]:
            cause = f"{level}: none named"
        elif row["similarity"] < row["gate"] or not row["similarity"]:
            cause = f"{level}: another one"
        else:
            cause = f"{level}: right, in a place that is wrong"
        yield cause, row["weight"] * (1.0 - counted)


def _by_stage(details: Details, lost: float) -> Iterator[tuple[str, float]]:
    for row in details.get("stages", ()):
        if "earned" not in row:
            continue
        if row["judge"] is None:
            cause = row["not_asked"]
        elif row["agree"]:
            cause = "the reasoning is short"
        else:
            cause = "the judge concludes something else"
        yield f"{row['stage']}: {cause}", row["weight"] - row["earned"]


Split = Callable[[Details, float], Iterator[tuple[str, float]]]
SPLIT: dict[str, Split] = {
    "spatial": _by_distance,
    "semantic": _by_level,
    "consistency": _by_stage,
}
