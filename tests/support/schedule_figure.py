"""The figure of docs/scaling.md: a bar for each schedule, how long a step takes and how much of it
the busiest GPU works."""

from __future__ import annotations

from html import escape

WIDTH, LEFT, BAR, GAP, TOP = 860, 330, 22, 14, 34
STEP, BUSY, TEXT = "#c9d6e8", "#2f5d9b", "#222"


def svg(rows: dict[str, tuple[float, float, dict[str, float]]]) -> str:
    """Return the figure. rows: name -> (seconds of a step, T*, parts)."""
    longest = max(step for step, _, _ in rows.values())
    scale = (WIDTH - LEFT - 150) / longest
    height = TOP + len(rows) * (BAR + GAP) + 6
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="13" fill="{TEXT}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18">seconds of a step (light), of which the busiest GPU works '
        "(dark): T*/T</text>",
    ]
    for i, (name, (step, busy, _)) in enumerate(rows.items()):
        y = TOP + i * (BAR + GAP)
        label = f"{step:.1f} s, T*/T {busy / step:.2f}"
        out += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{step * scale:.1f}" height="{BAR}" fill="{STEP}"/>',
            f'<rect x="{LEFT}" y="{y}" width="{busy * scale:.1f}" height="{BAR}" fill="{BUSY}"/>',
            f'<text x="{LEFT + step * scale + 6:.1f}" y="{y + 15}">{label}</text>',
        ]
    return "\n".join([*out, "</svg>\n"])
