"""Charts as inline SVG: curves over steps, and shares within a distance. Colours come from CSS.

Knows nothing of runs or rewards.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from geoagent_rl.pages.page import render

Point = tuple[float, float]
Line = tuple[str, Sequence[Point], str]  # name, points, colour as CSS
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 10, 22  # margins, in SVG units
MARGINS = {"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}


def curve(points: Sequence[Point], label: str, color: str, size: tuple[int, int] = (250, 150),
          floor: float | None = None, smooth: int = 5) -> Markup:  # fmt: skip
    """Return one curve: see curves()."""
    return curves([("", points, color)], label, size, floor, smooth)


def curves(
    lines: Sequence[Line],
    label: str,
    size: tuple[int, int] = (250, 150),
    floor: float | None = None,
    smooth: int = 5,
) -> Markup:
    """Return raw points with their centred moving average over `smooth` steps as a line.

    `floor` is a value the y axis always shows (0 for scores). Points that are not finite are left
    out."""
    finite = [
        (name, [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)], color)
        for name, points, color in lines
    ]
    drawn = [line for line in finite if line[1]]
    if not drawn:
        return Markup('<p class="muted">no {} recorded</p>').format(label)
    width, height = size
    xs = [x for _, points, _ in drawn for x, _ in points]
    ys = [y for _, points, _ in drawn for _, y in points] + ([] if floor is None else [floor])
    first, last = min(xs), max(*xs, min(xs) + 1)
    marks = ticks(min(ys), max(ys), 4)
    low, high = min(marks[0], *ys), max(marks[-1], *ys)

    def at(x: float, y: float) -> Point:
        return (round(LEFT + (x - first) / (last - first) * (width - LEFT - RIGHT), 1),
                round(height - BOTTOM - (y - low) / (high - low) * (height - TOP - BOTTOM), 1))  # fmt: skip

    return render(
        "curve.html",
        **MARGINS,
        width=width,
        height=height,
        label=f"{label} by step",
        y_ticks=[(at(first, y)[1], number(y)) for y in marks],
        x_ticks=[
            (at(x, low)[0], number(x))
            for x in ticks(first, max(xs), 5)
            if first <= x <= last and x == int(x)
        ],
        lines=[
            {
                "color": color,
                "dots": [
                    (*at(x, y), f"{name} step {number(x)}: {y:.4g}".strip()) for x, y in points
                ],
                "path": _path(at(x, y) for x, y in moving_average(points, smooth)),
            }
            for name, points, color in drawn
        ],
    )


def shares_within(
    systems: Sequence[tuple[str, Iterable[float], str]], size: tuple[int, int] = (1040, 260)
) -> Markup:
    """Draw for each (name, distances in km, CSS colour) the share of photographs within a distance,
    1 to 20,000 km on a log scale; distances that are not finite are never within."""
    width, height = size
    span = math.log10(20_000)

    def at(km: float, share: float) -> Point:
        x = min(max(math.log10(max(km, 1.0)), 0.0), span) / span
        y = height - BOTTOM - share * (height - TOP - BOTTOM)
        return round(LEFT + x * (width - LEFT - RIGHT), 1), round(y, 1)

    lines = []
    steps = [10 ** (span * i / 200) for i in range(201)]
    for name, distances, color in systems:
        ordered = sorted(distances)
        shares = (bisect.bisect_right(ordered, d) / max(len(ordered), 1) for d in steps)
        path = _path(at(d, share) for d, share in zip(steps, shares, strict=True))
        lines.append({"name": name, "color": color, "path": path})
    return render(
        "within.html",
        **MARGINS,
        width=width,
        height=height,
        y_ticks=[(at(1, share)[1], f"{share:.0%}") for share in (0, 0.25, 0.5, 0.75, 1)],
        x_ticks=[(at(km, 0)[0], f"{km:,} km") for km in (1, 25, 200, 750, 2500, 20_000)],
        lines=lines,
    )


def _path(points: Iterable[Point]) -> str:
    return "L".join(f"{x} {y}" for x, y in points)


def moving_average(points: Sequence[Point], window: int) -> list[Point]:
    """Return the centred mean over `window` points; at the ends over as many as there are on both
    sides."""
    out = []
    for i, (x, _) in enumerate(points):
        reach = min(window // 2, i, len(points) - 1 - i)
        near = [y for _, y in points[i - reach : i + reach + 1]]
        out.append((x, math.fsum(near) / len(near)))
    return out


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values that span low..high, roughly `about` of them."""
    if high <= low:  # a constant: from 0, which nothing that cannot be negative goes below
        low, high = min(2 * low, 0.0), max(2 * low, 0.0 if low else 1.0)
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(start, stop + 1)]


def number(value: float) -> str:
    """Write a number short and without exponent for what charts and tables show."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
