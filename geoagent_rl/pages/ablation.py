"""An ablation's outcome (evaluation/ablations.py) as Markdown and as a page with one figure, the
paper beside ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from geoagent_rl.evaluation.ablations import COLUMNS
from geoagent_rl.pages.charts import number, ticks
from geoagent_rl.pages.page import asset, write_page

Outcome = Mapping[str, Any]
EXTRA = {
    "geoscore": "GeoScore",
    "valid_format": "valid format",
    "consistency": "consistency",
    "reward": "reward",
}
DIGITS = {"geoscore": 0, "reward": 2}
ROW, LABEL, PANEL, GAP, TOP = (
    26,
    190,
    300,
    60,
    30,
)  # SVG units: row height, label and panel widths, between, above


def markdown(outcome: Outcome) -> str:
    """Two tables: rows, and orderings."""
    return "\n\n".join(_markdown(*table) for table in (_rows(outcome), _claims(outcome))) + "\n"


def write_ablation(path: Path, outcome: Outcome, title: str) -> None:
    """Write the page: figure, both tables, what each row overrides."""
    changes = [
        [
            row["title"],
            row["start"],
            ", ".join(f"{k}={v}" for k, v in row["overrides"].items()) or "none",
        ]
        for row in outcome["rows"]
    ]
    tables = {
        "Rows": _rows(outcome),
        "The paper's orderings, in percentage points": _claims(outcome),
        "What the rows change": (["row", "starts from", "overrides"], changes),
    }
    seeds = sorted({seed for row in outcome["rows"] for seed in row["seeds"]})
    about = (
        f"Held-out photographs, seeds {', '.join(map(str, seeds))}; ± is the {outcome['interval']}."
    )
    body = [
        f'<h1>{escape(title)}</h1><p class="muted">{escape(about)} The paper\'s figures are of GeoSeek-Val.</p>',
        f'<div class="card wide"><h3>Hit rate within 200 km, percent</h3>{figure(outcome)}</div>',
        *(
            f'<div class="card wide"><h3>{escape(head)}</h3>{_html(*table)}</div>'
            for head, table in tables.items()
        ),
    ]
    write_page(path, title, body)


def picture(outcome: Outcome) -> str:
    """Return the figure as a file of its own, with the report's light colours."""
    css = asset("page.css")
    light = (
        css[: css.index("@media")] + "svg { background: #fff; font-family: system-ui, sans-serif; }"
    )
    drawing = "\n".join(line for line in css.splitlines() if line.startswith("svg ."))
    opening, rest = figure(outcome).split(">", 1)
    opening = opening.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
    return f"{opening}><style>{light}{drawing}</style>{rest}"


Table = tuple[list[str], list[list[str]]]  # heads, lines of cells; plain text


def _rows(outcome: Outcome) -> Table:
    shown = {**{c: f"{c} ({km} km)" for c, km in COLUMNS.items()}, **EXTRA}
    heads = ["row", "seeds", *shown.values(), *(f"paper: {column}" for column in COLUMNS)]
    lines = []
    for row in outcome["rows"]:
        ours = [_with_interval(row, column) for column in shown]
        theirs = [f"{row['paper'][column]:.2f}" if row["paper"] else "–" for column in COLUMNS]
        lines.append([row["title"], str(len(row["seeds"])), *ours, *theirs])
    return heads, lines


def _claims(outcome: Outcome) -> Table:
    heads = [
        "ordering in the paper",
        "meaning",
        *(f"{c}: paper, ours" for c in COLUMNS),
        "verdicts",
    ]
    lines = []
    for claim in outcome["claims"]:
        found = [claim["columns"][column] for column in COLUMNS]
        verdicts = ", ".join(c["verdict"] for c in found)
        lines.append(
            [
                f"{claim['better']} > {claim['worse']}",
                claim["meaning"],
                *map(_difference, found),
                verdicts,
            ]
        )
    return heads, lines


def figure(outcome: Outcome, column: str = "region") -> str:
    """Two panels on the same rows: ours (mean, interval, a dot for each seed) and the paper's. Own
    scale each.
    """
    rows = outcome["rows"]
    height = TOP + ROW * len(rows) + 26
    width = LABEL + 2 * PANEL + GAP + 20
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{column} hit rate by ablation row">'
    ]
    ours = [values[column] for row in rows for values in row["by_seed"].values()]
    ours += [min(row["mean"][column] + (row["half_width"][column] or 0.0), 100.0) for row in rows]
    theirs = [row["paper"][column] for row in rows if row["paper"]]
    for i, (left, values, head) in enumerate(
        ((LABEL, ours, "ours"), (LABEL + PANEL + GAP, theirs, "the paper"))
    ):
        marks = ticks(0, max([*values, 1.0]), 5)
        parts.append(f'<text class="tick" x="{left}" y="14">{head}</text>')
        for mark in marks:
            x = left + mark / marks[-1] * PANEL
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{height - 22}"/>')
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{height - 6}" text-anchor="middle">{number(mark)}</text>'
            )
        for place, row in enumerate(rows):
            y = TOP + ROW * (place + 0.5)
            if i == 0:
                parts.append(f'<text class="tick" x="{LABEL - 12}" y="{y + 4:.1f}" text-anchor="end">'
                             f'{escape(row["title"])}</text>')  # fmt: skip
                parts.append(_ours(row, column, left, y, marks[-1]))
            elif row["paper"]:
                x = left + row["paper"][column] / marks[-1] * PANEL
                parts.append(f'<circle class="guess" cx="{x:.1f}" cy="{y:.1f}" r="5">'
                             f'<title>{escape(row["title"])}: {row["paper"][column]}</title></circle>')  # fmt: skip
    return "".join(parts) + "</svg>"


def _ours(row: Outcome, column: str, left: float, y: float, most: float) -> str:
    def at(value: float) -> float:
        return left + min(max(value, 0.0), most) / most * PANEL

    mean, half = row["mean"][column], row["half_width"][column]
    parts = []
    if half is not None:
        span = f"M{at(mean - half):.1f} {y:.1f}H{at(mean + half):.1f}"
        parts.append(f'<path class="smooth" style="--c:var(--accent)" d="{span}"/>')
    for seed, values in row["by_seed"].items():
        title = f"<title>seed {escape(seed)}: {values[column]:.1f}</title>"
        parts.append(f'<circle class="raw" style="--c:var(--ink)" cx="{at(values[column]):.1f}" cy="{y:.1f}" r="3">'
                     f"{title}</circle>")  # fmt: skip
    shown = f"{row['title']}: {mean:.1f}" + ("" if half is None else f" ± {half:.1f}")
    title = f"<title>{escape(shown)}</title>"
    parts.append(f'<circle class="truth" cx="{at(mean):.1f}" cy="{y:.1f}" r="5">{title}</circle>')
    return "".join(parts)


def _with_interval(row: Outcome, column: str) -> str:
    half, digits = row["half_width"][column], DIGITS.get(column, 1)
    return f"{row['mean'][column]:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def _difference(found: Outcome) -> str:
    theirs = "–" if found["paper"] is None else f"{found['paper']:+.2f}"
    return f"{theirs}, {found['ours']:+.1f}" + (
        "" if found["half_width"] is None else f" ± {found['half_width']:.1f}"
    )


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines))


def _html(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns of figures stand to the right, others to the left."""
    texts = [not any(line[i][:1] in "+-–0123456789" for line in lines) for i in range(len(heads))]

    def row(kind: str, cells: Sequence[str]) -> str:
        tags = (f"<{kind}{' class=text' if text else ''}>" for text in texts)
        return "".join(
            f"{tag}{escape(cell)}</{kind}>" for tag, cell in zip(tags, cells, strict=True)
        )

    body = "".join(f"<tr>{row('td', line)}</tr>" for line in lines)
    return (
        f'<div class="scroll"><table class="wrap"><tr>{row("th", heads)}</tr>{body}</table></div>'
    )
