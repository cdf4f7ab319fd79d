"""Great-circle distance and GeoScore. Pure NumPy; may know nothing of names, files or models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS_KM = (
    6371.0  # the mean radius that the paper, OSV-5M and the published IM2GPS tables use
)
PAPER_SCALE_KM = 1805.0  # GeoAgent Eq. 10: 5000 exp(-10 d / 18050)
MAX_GEOSCORE = 5000.0
Numbers = NDArray[Any] | Sequence[float]


@overload
def haversine_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float: ...
@overload
def haversine_km(
    lat1: Numbers, lon1: Numbers, lat2: Numbers, lon2: Numbers
) -> NDArray[np.float64]: ...
@overload
def haversine_km(lat1: float, lon1: float, lat2: Numbers, lon2: Numbers) -> NDArray[np.float64]: ...
def haversine_km(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> NDArray[np.float64] | float:
    """Return the great-circle distance in km on a sphere of 6371 km. Arguments in degrees,
    broadcast against each other.

    Scalars in, a float out; otherwise an array of the broadcast shape. NaN stays NaN.
    """
    if type(lat1) is type(lon1) is type(lat2) is type(lon2) is float:
        return _haversine_of_floats(lat1, lon1, lat2, lon2)
    phi1, lam1, phi2, lam2 = (
        np.radians(np.asarray(x, dtype=np.float64)) for x in (lat1, lon1, lat2, lon2)
    )
    a = (
        np.sin((phi2 - phi1) / 2) ** 2
        + np.cos(phi1) * np.cos(phi2) * np.sin((lam2 - lam1) / 2) ** 2
    )
    km = (
        2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(a, 0.0, 1.0)))
    )  # rounding may pass 1 at antipodes
    return float(km) if km.ndim == 0 else km


def distances_km(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance [n] between each row of a and b [n, 2]: (lat, lon) in degrees."""
    return haversine_km(a[:, 0], a[:, 1], b[:, 0], b[:, 1])


def _haversine_of_floats(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Return the same for single pairs, without NumPy's cost per call (20 times quicker)."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    a = math.sin((phi2 - phi1) / 2) ** 2
    a += math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return math.nan if math.isnan(a) else 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(a)))


@overload
def geoscore(d_km: float, scale_km: float = ...) -> float: ...
@overload
def geoscore(d_km: Numbers, scale_km: float = ...) -> NDArray[np.float64]: ...
def geoscore(d_km: ArrayLike, scale_km: float = PAPER_SCALE_KM) -> NDArray[np.float64] | float:
    """Return the GeoGuessr-style score 5000 exp(-d / scale), 0 to 5000. Scales differ between
    papers: always print yours."""
    if not scale_km > 0:
        raise ValueError(f"the GeoScore scale must be a positive number of km, not {scale_km}")
    score = MAX_GEOSCORE * np.exp(-np.asarray(d_km, dtype=np.float64) / scale_km)
    return float(score) if score.ndim == 0 else score
