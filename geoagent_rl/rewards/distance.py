"""How much a distance earns: the curves that published recipes draw over kilometres. Pure.

- exponential: exp(-d / scale_km), 0 from cut_km on (GeoAgent, Geobench, geospot).
- logistic: 2 / (1 + exp(d / scale_km)) (GRE Suite): flat near 0, then steeper.
- knots: straight lines between (km, value) points (Geo-R, REVERSE, SpotAgent).
- steps: the value of the first step that the distance lies below (Thinking with Map).

Knots and steps hold the first value before their first point and are 0 beyond their last."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from geoagent_rl.config.reward import Shape

Point = tuple[float, float]  # km, value
FARTHEST_KM = 20_100.0  # more than half the Earth's circumference; keeps exp() finite for any scale


def earned(
    km: float, shape: Shape, scale_km: float, cut_km: float = 0.0, points: Sequence[Point] = ()
) -> float:
    """Return what a distance of `km` earns.

    scale_km: of exponential and logistic; cut_km: from there on 0, 0 for nowhere; points: of knots
    and steps, by rising km.

    >>> round(earned(200.0, "exponential", 200.0), 4)
    0.3679
    >>> earned(100.0, "knots", 0.0, points=[(25.0, 0.75), (200.0, 0.0)])  # doctest: +ELLIPSIS
    0.428...
    """
    if 0 < cut_km <= km:
        return 0.0
    if shape == "exponential":
        return math.exp(-km / scale_km)
    if shape == "logistic":
        x = math.exp(-min(km, FARTHEST_KM) / scale_km)
        return 2.0 * x / (1.0 + x)
    return between(km, points) if shape == "knots" else step(km, points)


def between(km: float, points: Sequence[Point]) -> float:
    """Return the value on the straight line between the two points around `km`."""
    at = [x for x, _ in points]
    if km > at[-1]:
        return 0.0
    i = bisect_left(at, km)
    if i == 0:
        return points[0][1]
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    return y0 + (y1 - y0) * (km - x0) / (x1 - x0)


def step(km: float, points: Sequence[Point]) -> float:
    """Return the value of the first point whose km is greater than `km`."""
    i = bisect_right([x for x, _ in points], km)
    return points[i][1] if i < len(points) else 0.0
