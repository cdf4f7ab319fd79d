"""All that `eval score` and `eval compare` say, as plain figures: tables, intervals, buckets,
failures, calibration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoagent_rl.data.tables import to_float
from geoagent_rl.evaluation import buckets
from geoagent_rl.evaluation.bootstrap import ROUNDS, Interval, intervals, paired
from geoagent_rl.evaluation.calibration import calibration
from geoagent_rl.evaluation.metrics import THRESHOLDS_KM
from geoagent_rl.evaluation.predictions import Predictions
from geoagent_rl.geo.distance import distances_km, geoscore
from geoagent_rl.types import UserError

MEASURES = (*(str(km) for km in THRESHOLDS_KM), "geoscore")
SAME_TRUTH_KM = 0.1  # two files of one benchmark may round differently
# Columns that `locate` adds beside the places, and what their mean over the rows is called. Rewards
# (reward_total, reward_<name>) keep their names; "consistency" is what files of before call it.
RECORDED = {
    "format_valid": "format_valid",
    "right_country": "country_acc",
    "right_region": "region_acc",
    "right_place": "place_acc",
    "spread_km": "spread_km",
    "consistency": "reward_consistency",
}


def row_values(predictions: Predictions, scale_km: float) -> NDArray[np.float64]:
    """Return (n, 6): hit or not at each threshold, GeoScore; 0 for a failed prediction."""
    km = predictions.km
    score = np.where(np.isfinite(km), geoscore(np.where(np.isfinite(km), km, 0.0), scale_km), 0.0)
    return np.stack([*(km <= limit for limit in THRESHOLDS_KM), score], axis=1).astype(np.float64)


def summarise(
    predictions: Predictions,
    scale_km: float,
    by: Sequence[str] = (),
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return score_table's keys, the means of what `locate` recorded (see `recorded`), and
    intervals {measure: [low, high]}, failures, buckets, calibration.

    A kind of bucket that the file says nothing about is left out.
    """
    table = predictions.table(scale_km)
    found = intervals(row_values(predictions, scale_km), rounds, seed)
    table["intervals"] = {name: [i.low, i.high] for name, i in zip(MEASURES, found, strict=True)}
    table |= _means(predictions)
    table["failures"] = failures(predictions)
    table["buckets"] = {}
    for kind in by:
        names = buckets.labels(predictions, kind)
        if names is not None:
            groups = {
                name: predictions.subset(buckets.members(names, name))
                for name in buckets.order(kind, names)
            }
            table["buckets"][kind] = {name: group.table(scale_km) for name, group in groups.items()}
    table["calibration"] = calibration(predictions)
    return table


def failures(predictions: Predictions) -> dict[str, int]:
    """Return reasons of the rows without a usable prediction, most frequent first."""
    reasons = predictions.columns.get("failure") or [None] * len(predictions.uids)
    located = predictions.located
    counted = Counter(
        str(r or "no prediction in the file")
        for r, ok in zip(reasons, located, strict=True)
        if not ok
    )
    return dict(counted.most_common())


def _means(predictions: Predictions) -> dict[str, float]:
    """Means of the columns that `locate` adds, over the rows that have a value."""
    out = {}
    for column, values in predictions.columns.items():
        if column in RECORDED or column.startswith("reward_"):
            numbers = np.array([to_float(value) for value in values])
            known = numbers[np.isfinite(numbers)]
            if len(known):
                out[RECORDED.get(column, column)] = float(known.mean())
    return out


def recorded(table: Mapping[str, Any]) -> dict[str, float]:
    """Return the means of what `locate` recorded beside the places that are in a table of
    `summarise`.
    """
    names = {*RECORDED.values(), *(name for name in table if name.startswith("reward_"))}
    return {name: value for name, value in table.items() if name in names}


def on_common_photographs(systems: Sequence[Predictions]) -> list[Predictions]:
    """Return the same uids in the same order for all. Raises UserError where none is common or the
    truths differ.
    """
    common = set(systems[0].uids).intersection(*(s.uids for s in systems[1:]))
    if not common:
        raise UserError(
            "the files have no uid in common; give files with a column uid of the same photographs"
        )
    uids = [u for u in systems[0].uids if u in common]
    out = []
    for system in systems:
        at = {uid: i for i, uid in enumerate(system.uids)}
        out.append(system.subset(np.array([at[u] for u in uids])))
    for other in out[1:]:
        apart = distances_km(out[0].truth, other.truth)
        if apart.max() > SAME_TRUTH_KM:
            i = int(apart.argmax())
            raise UserError(
                f"{out[0].name} and {other.name} disagree about the true position of {uids[i]} by {apart[i]:.1f} km: "
                "are they of the same benchmark?"
            )
    return out


def compare(
    systems: Sequence[Predictions],
    scale_km: float,
    by: Sequence[str] = (),
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return {n, left_out, systems: {name: summarise()}, differences: {name: {measure: {mean, low,
    high, p}}}} against the first system, on the photographs that all have. Names must differ."""
    if len({s.name for s in systems}) < len(systems):
        raise UserError("two files have the same name; call them NAME=FILE")
    common = on_common_photographs(systems)
    values = [row_values(s, scale_km) for s in common]
    out: dict[str, Any] = {
        "n": len(common[0].uids),
        "left_out": {s.name: len(s.uids) - len(common[0].uids) for s in systems},
        "systems": {s.name: summarise(s, scale_km, by, rounds, seed) for s in common},
        "differences": {},
    }
    for system, theirs in zip(common[1:], values[1:], strict=True):
        rows = paired(values[0], theirs, rounds, seed)
        out["differences"][system.name] = {
            m: _difference(*row) for m, row in zip(MEASURES, rows, strict=True)
        }
    return out


def _difference(interval: Interval, p: float) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "p": p}
