"""Make world.json from Natural Earth's countries at 1:50 million, as the npm package world-atlas
2.0.2 carries them: python geoagent_rl/assets/natural_earth/build.py countries-50m.json.

Arcs are simplified one by one, so neighbours still meet. An arc of one country is coast, of two a
border. Paths are in tenths of a map unit (geoagent_rl/pages/maps.py), which is 0.04 degrees.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("world.json")
NORTH, SOUTH = 84.0, -60.0  # of the maps, degrees; the Antarctic is left out
TENTHS = 25.0  # to a degree
ROUND = 360 * TENTHS  # once round the Earth
TOLERANCE = 1.6  # tenths that a simplified line may lie off
SMALLEST = 14.0  # tenths squared: islands of a smaller box are left out

Place = tuple[float, float]


def paths(topology: dict[str, Any]) -> dict[str, str]:
    """Return {"land": closed outlines, "borders": lines between countries} as SVG paths."""
    arcs = [simplified(points) for points in placed(topology)]
    rings = list(outlines(topology["objects"]["land"]["geometries"]))
    countries = Counter(
        index if index >= 0 else ~index
        for ring in outlines(topology["objects"]["countries"]["geometries"])
        for index in ring
    )
    coasts = {index if index >= 0 else ~index for ring in rings for index in ring}
    land = [copy for ring in rings for copy in on_the_map(joined(arcs, ring))]
    between = [arcs[i] for i, count in sorted(countries.items()) if count > 1 and i not in coasts]
    return {
        "land": "".join(path(ring) + "z" for ring in land if seen(ring)),
        "borders": "".join(path(line) for line in between if inside(line)),
    }


def placed(topology: dict[str, Any]) -> Iterator[list[Place]]:
    """Yield each arc's points in tenths of a map unit, x to the east and y to the south."""
    (east, north), (left, bottom) = (topology["transform"][k] for k in ("scale", "translate"))
    for arc in topology["arcs"]:
        sums = accumulate(arc, lambda a, b: [a[0] + b[0], a[1] + b[1]])
        yield [
            ((x * east + left + 180) * TENTHS, (NORTH - (y * north + bottom)) * TENTHS)
            for x, y in sums
        ]


def outlines(geometries: Sequence[dict[str, Any]]) -> Iterator[list[int]]:
    """Yield the rings of polygons as indices of arcs; ~i is arc i backwards."""
    for geometry in geometries:
        arcs = geometry.get("arcs", [])
        yield from (r for polygon in ([arcs], arcs)[geometry["type"] != "Polygon"] for r in polygon)


def joined(arcs: Sequence[list[Place]], ring: Sequence[int]) -> list[Place]:
    """Return the points of a ring; neighbouring arcs share an end."""
    points: list[Place] = []
    for index in ring:
        points += (arcs[index] if index >= 0 else arcs[~index][::-1])[bool(points) :]
    return points


def on_the_map(ring: list[Place]) -> Iterator[list[Place]]:
    """Yield an outline unwound where it crosses the date line, once for each edge it crosses."""
    turns = accumulate(
        (round((a[0] - b[0]) / ROUND) for a, b in zip(ring, ring[1:], strict=False)), initial=0
    )
    whole = [(x + turn * ROUND, y) for (x, y), turn in zip(ring, turns, strict=True)]
    for shift in (-ROUND, 0.0, ROUND):
        if any(0 < x + shift < ROUND for x, _ in whole):
            yield [(x + shift, y) for x, y in whole]


def simplified(points: list[Place]) -> list[Place]:
    """Return the line with fewer points, nowhere further off than TOLERANCE (Douglas-Peucker)."""
    keep, spans = {0, len(points) - 1}, [(0, len(points) - 1)]
    while spans:
        first, last = spans.pop()
        gaps = [(off(points[i], points[first], points[last]), i) for i in range(first + 1, last)]
        gap, at = max(gaps, default=(0.0, 0))
        if gap > TOLERANCE:
            keep.add(at)
            spans += [(first, at), (at, last)]
    return [points[i] for i in sorted(keep)]


def off(p: Place, a: Place, b: Place) -> float:
    """Return how far p lies from the line from a to b."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    whole = dx * dx + dy * dy
    t = min(max(((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / whole, 0.0), 1.0) if whole else 0.0
    return float(((p[0] - a[0] - t * dx) ** 2 + (p[1] - a[1] - t * dy) ** 2) ** 0.5)


def inside(line: Sequence[Place]) -> bool:
    """Return whether any of it is on the map."""
    return any(y < (NORTH - SOUTH) * TENTHS for _, y in line)


def seen(ring: Sequence[Place]) -> bool:
    """Return whether an outline is on the map and large enough to be seen."""
    xs, ys = zip(*ring, strict=True)
    return inside(ring) and (max(xs) - min(xs)) * (max(ys) - min(ys)) >= SMALLEST


def path(points: Sequence[Place]) -> str:
    """Return a line as whole tenths, each from the one before."""
    at = [(round(x), round(y)) for x, y in points]
    moves = [(x - a, y - b) for (a, b), (x, y) in zip(at, at[1:], strict=False) if (x, y) != (a, b)]
    text = "".join(f" {x} {y}" for x, y in moves).replace(" -", "-").lstrip()
    return f"M{at[0][0]} {at[0][1]}l{text}" if moves else ""


if __name__ == "__main__":
    found = paths(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    FILE.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")
