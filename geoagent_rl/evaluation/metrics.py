"""Distances between predictions and the truth, as the published tables count them.

Convention (it reproduces the published IM2GPS and OSV-5M figures): haversine with R = 6371 km, a
hit is a distance `<=` the threshold. A failed prediction (missing, not finite or out of range) is a
miss at every threshold and scores 0 GeoScore points, so hit shares and GeoScore are over all n
rows; mean_km and median_km are over the located rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoagent_rl.geo.distance import PAPER_SCALE_KM, distances_km, geoscore
from geoagent_rl.types import UserError

THRESHOLDS_KM = (1, 25, 200, 750, 2500)  # street, city, region, country, continent


def score_table(
    gt_lat: ArrayLike,
    gt_lon: ArrayLike,
    pred_lat: ArrayLike,
    pred_lon: ArrayLike,
    geoscore_scale_km: float = PAPER_SCALE_KM,
) -> dict[str, Any]:
    """Return {n, failed, hit: {"1", "25", "200", "750", "2500": fractions}, mean_km, median_km,
    geoscore, geoscore_scale_km}.

    All arguments: n degrees. mean_km and median_km are None when every prediction failed; hit and
    geoscore are 0 then, and for n = 0. Raises UserError naming the first row whose truth is not a
    place on Earth."""
    truth, predicted = _pair(gt_lat, gt_lon), _pair(pred_lat, pred_lon)
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} true positions but {len(predicted)} predictions")
    wrong = np.flatnonzero(~on_earth(truth))
    if len(wrong):
        lat, lon = truth[wrong[0]]
        raise UserError(
            f"row {wrong[0] + 1} of {len(truth)} has no usable true position (latitude {lat:g}, longitude {lon:g});"
            f" {len(wrong)} such rows: correct or remove them, or name other columns"
        )
    located = on_earth(predicted)
    km = distances_km(truth[located], predicted[located])
    n = len(truth)
    return {
        "n": n,
        "failed": int(n - located.sum()),
        "hit": {
            str(limit): float((km <= limit).sum() / n) if n else 0.0 for limit in THRESHOLDS_KM
        },
        "mean_km": float(km.mean()) if len(km) else None,
        "median_km": float(np.median(km)) if len(km) else None,
        "geoscore": float(geoscore(km, geoscore_scale_km).sum() / n) if n else 0.0,
        "geoscore_scale_km": float(geoscore_scale_km),
    }


def _pair(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.float64]:
    return np.stack(
        [np.asarray(lat, dtype=np.float64).ravel(), np.asarray(lon, dtype=np.float64).ravel()],
        axis=1,
    )


def on_earth(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which are finite and within 90 and 180 degrees; NaN compares false."""
    return (np.abs(points[:, 0]) <= 90) & (np.abs(points[:, 1]) <= 180)
