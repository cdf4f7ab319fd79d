"""Distances between predictions and the truth, as the published tables count them; reading of
prediction files.

Convention (it reproduces the published IM2GPS and OSV-5M figures): haversine with R = 6371 km, a
hit is a distance `<=` the threshold. A failed prediction (missing, not finite or out of range) is a
miss at every threshold and scores 0 GeoScore points, so hit shares and GeoScore are over all n
rows; mean_km and median_km are over the located rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoagent_rl.geo.distance import PAPER_SCALE_KM, geoscore, haversine_km
from geoagent_rl.types import UserError

THRESHOLDS_KM = (1, 25, 200, 750, 2500)  # street, city, region, country, continent


def score_table(
    gt_lat: ArrayLike,
    gt_lon: ArrayLike,
    pred_lat: ArrayLike,
    pred_lon: ArrayLike,
    geoscore_scale_km: float = PAPER_SCALE_KM,
) -> dict[str, Any]:
    """{n, failed, hit: {"1", "25", "200", "750", "2500": fractions}, mean_km, median_km, geoscore,
    geoscore_scale_km}.

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
    km = haversine_km(*truth[located].T, *predicted[located].T)
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
    """Finite and within 90 and 180 degrees; NaN compares false."""
    return (np.abs(points[:, 0]) <= 90) & (np.abs(points[:, 1]) <= 180)


def read_table(path: Path) -> Any:
    """A CSV, TSV, JSONL or Parquet file as a pandas DataFrame, texts of CSVs as they are. Raises
    UserError.
    """
    import pandas  # slow to import, and only needed here

    readers = {
        ".csv": lambda: pandas.read_csv(
            path, dtype=str, encoding="utf-8-sig", skipinitialspace=True
        ),
        ".tsv": lambda: pandas.read_csv(path, dtype=str, encoding="utf-8-sig", sep="\t"),
        ".jsonl": lambda: pandas.read_json(path, lines=True, dtype=False),
        ".parquet": lambda: pandas.read_parquet(path),
    }
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: predictions must be a {', '.join(readers)} file")
    try:
        table = readers[path.suffix.lower()]()
    except FileNotFoundError:
        raise UserError(f"no prediction file {path}") from None
    except (OSError, ValueError) as error:  # pandas' and pyarrow's parse errors are ValueErrors
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if table.empty:
        raise UserError(f"{path} has no rows")
    return table


def numbers(table: Any, name: str) -> NDArray[np.float64]:
    """A column of a DataFrame; a cell that is not a number becomes NaN."""
    import pandas

    return pandas.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
