"""Maps of the world: true and predicted places, and how densely places lie. Equirectangular; land
and borders are Natural Earth's (assets/natural_earth)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.pages.page import render

Point = tuple[float, float]
NORTH, SOUTH, SCALE = 84.0, -60.0, 2.5  # map window in degrees, map units per degree
FAR_KM = (25, 200, 750, 2500)  # where a line's colour changes
DISTANCES = (*(f"≤ {km:,} km" for km in FAR_KM), "farther")
CELL = 4  # degrees, of the density view
SHADES = 6


def world_map(
    pairs: Sequence[tuple[Point, Point, str]],
    label: str = "map of true and predicted places",
    note: str = "",
    answers: Iterable[Point] = (),
) -> Markup:
    """Return a map; each pair is (true (lat, lon), predicted (lat, lon), hover text), degrees.

    A line joins the two the short way round, coloured by their distance. `answers`: predicted
    places of which the density view is made.
    """
    cells = Counter((_cell(lat), _cell(lon)) for lat, lon in answers)
    shown = [
        {
            "truth": _at(truth),
            "guess": _at(guess),
            "hover": hover,
            "link": _link(truth, guess),
            "far": sum(haversine_km(*truth, *guess) > km for km in FAR_KM),
        }
        for truth, guess, hover in pairs
    ]
    density = [(lat, lon, count) for (lat, lon), count in sorted(cells.items())]
    return _drawn(label, note, pairs=shown, distances=DISTANCES, cells=density, degrees=CELL)


def place_map(place: Point, hover: str, label: str, *, true: bool, note: str = "") -> Markup:
    """Return a map with one mark: a true place, or an answer."""
    mark = {"truth": _at(place), "guess": None} if true else {"truth": None, "guess": _at(place)}
    return _drawn(label, note, pairs=[mark | {"hover": hover, "link": "", "far": 0}])


def cell_map(cells: Sequence[tuple[float, float, int]], label: str) -> Markup:
    """Return a map of 1-degree cells, (lat, lon) of the centre and a count above 0: the darker, the
    more (on a log scale).
    """
    return _drawn(label, "", cells=cells, degrees=1)


def _drawn(
    label: str,
    note: str,
    pairs: Sequence[dict[str, object]] = (),
    distances: Sequence[str] = (),
    cells: Sequence[tuple[float, float, int]] = (),
    degrees: int = 1,
) -> Markup:
    return render(
        "world_map.html",
        label=label,
        note=note,
        width=f"{360 * SCALE:g}",
        height=f"{(NORTH - SOUTH) * SCALE:g}",
        grid=_grid(),
        pairs=pairs,
        distances=distances if len(pairs) > 1 else (),
        shades=_shades(cells, degrees),
        truth_known=any(pair["truth"] for pair in pairs),
        answered=any(pair["guess"] for pair in pairs),
    )


def _shades(cells: Sequence[tuple[float, float, int]], degrees: int) -> list[tuple[str, str]]:
    """Return (opacity, path of squares) from few to many."""
    most = math.log10(max((count for *_, count in cells), default=1)) or 1.0
    by_shade: dict[int, list[str]] = {}
    side = degrees * SCALE
    for lat, lon, count in cells:
        x, y = _at((lat + degrees / 2, lon - degrees / 2))
        shade = min(int(math.log10(count) / most * SHADES), SHADES - 1)
        by_shade.setdefault(shade, []).append(f"M{x:g} {y:g}h{side:g}v{side:g}h-{side:g}z")
    return [
        (f"{0.3 + 0.13 * shade:.2f}", "".join(squares))
        for shade, squares in sorted(by_shade.items())
    ]


def _cell(degrees: float) -> float:
    """Return the centre of the density view's cell."""
    return math.floor(degrees / CELL) * CELL + CELL / 2


def _grid() -> str:
    width, height = 360 * SCALE, (NORTH - SOUTH) * SCALE
    lines = [f"M{_at((0, lon))[0]:g} 0V{height:g}" for lon in range(-150, 180, 30)]
    return "".join(lines + [f"M0 {_at((lat, 0))[1]:g}H{width:g}" for lat in range(-30, 90, 30)])


def _at(place: Point) -> tuple[float, float]:
    """Return (x, y) of a place (lat, lon)."""
    lat, lon = place
    return round((lon + 180) * SCALE, 1), round((NORTH - min(max(lat, SOUTH), NORTH)) * SCALE, 1)


def _link(truth: Point, guess: Point) -> str:
    (x0, y0), (x1, y1) = _at(truth), _at(guess)
    if abs(guess[1] - truth[1]) <= 180:
        return f"M{x0} {y0}L{x1} {y1}"
    shift = math.copysign(360 * SCALE, truth[1] - guess[1])
    return f"M{x0} {y0}L{x1 + shift:.1f} {y1}M{x0 - shift:.1f} {y0}L{x1} {y1}"
