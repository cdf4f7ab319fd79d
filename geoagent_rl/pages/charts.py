"""Inline SVG: a curve over steps, and a world map of true and predicted places. Strings only;
colours come from CSS.

Knows nothing of runs or rewards. Every text that enters is escaped here.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path

Point = tuple[float, float]
BIG_CITIES = Path(__file__).parents[1] / "assets" / "geonames" / "big_cities.tsv"
NORTH, SOUTH, SCALE = 84.0, -60.0, 2.5  # map window in degrees, SVG units per degree


def curve(points: Sequence[Point], label: str, color: str, size: tuple[int, int] = (250, 150),
          floor: float | None = None, smooth: int = 5) -> str:  # fmt: skip
    """Raw points with their centred moving average over `smooth` steps as a line. `color` is a CSS
    value.

    `floor` is a value the y axis always shows (0 for scores). Points that are not finite are left
    out."""
    points = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return f'<p class="muted">no {escape(label)} recorded</p>'
    width, height = size
    left, right, top, bottom = 36, 8, 10, 22
    values = [y for _, y in points] + ([] if floor is None else [floor])
    y_ticks = ticks(min(values), max(values), 4)
    x_ticks = [
        t
        for t in ticks(points[0][0], points[-1][0], 5)
        if points[0][0] <= t <= points[-1][0] and t == int(t)
    ]
    low, high = min(y_ticks[0], *values), max(y_ticks[-1], *values)
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def at(x: float, y: float) -> Point:
        return (left + (x - first) / (last - first) * (width - left - right),
                height - bottom - (y - low) / (high - low) * (height - top - bottom))  # fmt: skip

    name = f"{escape(label)} by step"
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}" style="--c:{escape(color)}">'
    ]
    for value in y_ticks:
        y = at(first, value)[1]
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{width - right}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>'
        )
    for value in x_ticks:
        x = at(value, low)[0]
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - 7}" text-anchor="middle">{number(value)}</text>'
        )
    for x, y in points:
        px, py = at(x, y)
        title = f"step {number(x)}: {y:.4g}"
        parts.append(
            f'<circle class="raw" cx="{px:.1f}" cy="{py:.1f}" r="2.2"><title>{title}</title></circle>'
        )
    path = "L".join(
        f"{px:.1f} {py:.1f}" for px, py in (at(x, y) for x, y in moving_average(points, smooth))
    )
    parts.append(f'<path class="smooth" d="M{path}"/></svg>')
    return "".join(parts)


def shares_within(
    systems: Sequence[tuple[str, Iterable[float], str]], size: tuple[int, int] = (1040, 260)
) -> str:
    """Draw for each (name, distances in km, CSS colour) the share of photographs within a distance,
    1 to 20,000 km on a log scale; distances that are not finite are never within."""
    width, height = size
    left, right, top, bottom = 40, 8, 10, 22
    span = math.log10(20_000)

    def at(km: float, share: float) -> Point:
        x = min(max(math.log10(max(km, 1.0)), 0.0), span) / span
        return left + x * (width - left - right), height - bottom - share * (height - top - bottom)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="share of photographs within a distance">'
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = at(1, share)[1]
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{width - right}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    for km in (1, 25, 200, 750, 2500, 20_000):
        x = at(km, 0)[0]
        parts.append(f'<path class="grid" d="M{x:.1f} {top}V{height - bottom}"/>')
        anchor = "end" if km == 20_000 else "middle"
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - 7}" text-anchor="{anchor}">{km:,} km</text>'
        )
    for name, distances, color in systems:
        ordered = sorted(distances)
        steps = [10 ** (span * i / 200) for i in range(201)]
        points = (at(d, bisect.bisect_right(ordered, d) / max(len(ordered), 1)) for d in steps)
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        title = f"<title>{escape(name)}</title>"
        parts.append(f'<path class="smooth" style="--c:{escape(color)}" d="M{path}">{title}</path>')
    return "".join(parts) + "</svg>"


def moving_average(points: Sequence[Point], window: int) -> list[Point]:
    """Centred mean over `window` points; at the ends over as many as there are on both sides."""
    out = []
    for i, (x, _) in enumerate(points):
        reach = min(window // 2, i, len(points) - 1 - i)
        near = [y for _, y in points[i - reach : i + reach + 1]]
        out.append((x, math.fsum(near) / len(near)))
    return out


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values that span low..high, roughly `about` of them."""
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1)
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(start, stop + 1)]


def number(value: float) -> str:
    """Short and without exponent for what charts and tables show."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def world_map(
    pairs: Sequence[tuple[Point, Point, str]], label: str = "map of true and predicted places"
) -> str:
    """Return an equirectangular map; each pair is (true (lat, lon), predicted (lat, lon), hover
    text), degrees.

    A line joins the two, the short way round (it may leave on one side and come in on the other).
    """
    parts = _background(label)
    for truth, guess, _ in pairs:
        parts.append(f'<path class="miss" d="{_link(truth, guess)}"/>')
    for truth, guess, hover in pairs:
        title = f"<title>{escape(hover)}</title>"
        parts.append(
            f'<circle class="truth" cx="{_x(truth[1]):.1f}" cy="{_y(truth[0]):.1f}" r="4">{title}</circle>'
        )
        parts.append(
            f'<circle class="guess" cx="{_x(guess[1]):.1f}" cy="{_y(guess[0]):.1f}" r="2.6">{title}</circle>'
        )
    return "".join(parts) + "</svg>"


def cell_map(cells: Sequence[tuple[float, float, int]], label: str) -> str:
    """Return a map of 1-degree cells, (lat, lon) of the centre and a count above 0: the darker, the
    more (on a log scale).
    """
    parts = _background(label, silhouette=False)
    by_shade: dict[int, list[str]] = {}
    for lat, lon, count in cells:
        square = f"M{_x(lon - 0.5):g} {_y(lat + 0.5):g}h{SCALE:g}v{SCALE:g}h-{SCALE:g}z"
        by_shade.setdefault(min(int(math.log10(count) * 2), 5), []).append(square)
    for shade, squares in sorted(by_shade.items()):
        parts.append(
            f'<path style="fill:var(--accent)" opacity="{0.35 + 0.13 * shade:.2f}" d="{"".join(squares)}"/>'
        )
    return "".join(parts) + "</svg>"


def _background(label: str, silhouette: bool = True) -> list[str]:
    """Return the opening tag, a grid, and the inhabited land."""
    width, height = 360 * SCALE, (NORTH - SOUTH) * SCALE
    parts = [f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">']
    for lon in range(-150, 180, 30):
        parts.append(f'<path class="grid" d="M{_x(lon):g} 0V{height:g}"/>')
    for lat in range(-30, 90, 30):
        parts.append(
            f'<path class="{"equator" if lat == 0 else "grid"}" d="M0 {_y(lat):g}H{width:g}"/>'
        )
    return parts + ([f'<path class="city" d="{_silhouette()}"/>'] if silhouette else [])


def _x(lon: float) -> float:
    return (lon + 180) * SCALE


def _y(lat: float) -> float:
    return (NORTH - min(max(lat, SOUTH), NORTH)) * SCALE


def _link(truth: Point, guess: Point) -> str:
    shift = 0 if abs(guess[1] - truth[1]) <= 180 else math.copysign(360, truth[1] - guess[1])
    path = f"M{_x(truth[1]):.1f} {_y(truth[0]):.1f}L{_x(guess[1] + shift):.1f} {_y(guess[0]):.1f}"
    if shift:
        path += (
            f"M{_x(truth[1] - shift):.1f} {_y(truth[0]):.1f}L{_x(guess[1]):.1f} {_y(guess[0]):.1f}"
        )
    return path


@cache
def _silhouette() -> str:
    """One path of dots, a dot for each big city: no coast lines come with the packages used, and
    none are needed.
    """
    cities = (map(float, line.split()) for line in BIG_CITIES.read_text().splitlines())
    dots = {(round(_x(lon)), round(_y(lat))) for lat, lon in cities}
    return "".join(f"M{x} {y}h0" for x, y in sorted(dots))
