"""An ablation's outcome (evaluation/ablations.py) as Markdown and as a page with one figure, the
paper beside ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from geoagent_rl.evaluation.ablations import COLUMNS
from geoagent_rl.pages.charts import number, ticks
from geoagent_rl.pages.page import asset, render, write_page

Outcome = Mapping[str, Any]
EXTRA = {
    "geoscore": "GeoScore",
    "valid_format": "valid format",
    "consistency": "consistency",
    "reward": "reward",
}
DIGITS = {"geoscore": 0, "reward": 2}
# SVG units: row height, least label width and that of a letter, panel width, between, above
ROW, LABEL, LETTER, PANEL, GAP, TOP = 26, 190, 7, 300, 60, 30


def markdown(outcome: Outcome) -> str:
    """Return the tables: rows, what GRPO adds to cold starts, the paper's orderings."""
    tables = (_rows(outcome), _gains(outcome), _claims(outcome))
    return "\n\n".join(_markdown(*table) for table in tables if table[1]) + "\n"


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
        "What GRPO adds to the cold start, in percentage points": _gains(outcome),
        "The paper's orderings, in percentage points": _claims(outcome),
        "What the rows change": (["row", "starts from", "overrides"], changes),
    }
    seeds = sorted({seed for row in outcome["rows"] for seed in row["seeds"]})
    about = (
        f"Held-out photographs, seeds {', '.join(map(str, seeds))}; ± is the {outcome['interval']}."
    )
    shown = [(head, *table, _texts(*table)) for head, table in tables.items() if table[1]]
    drawn = figure(outcome)
    body = render("ablation.html", title=title, about=about, figure=drawn, tables=shown)
    write_page(path, title, [body])


def picture(outcome: Outcome) -> str:
    """Return the figure as a file of its own, with the report's light colours."""
    css = str(asset("page.css"))
    light = (
        css[: css.index("@media")] + "svg { background: #fff; font-family: system-ui, sans-serif; }"
    )
    drawing = "\n".join(line for line in css.splitlines() if line.startswith("svg ."))
    opening, rest = str(figure(outcome)).strip().split(">", 1)
    opening = opening.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
    return f"{opening}><style>{light}{drawing}</style>{rest}"


Table = tuple[list[str], list[list[str]]]  # heads, lines of cells; plain text


def _rows(outcome: Outcome) -> Table:
    """Return ours beside the paper's. Where rows answer in different forms, what only one form can
    earn is no comparison, and is left out."""
    rows = outcome["rows"]
    one_form = not any("policy.answer" in row["overrides"] for row in rows)
    extra = EXTRA if one_form else {name: EXTRA[name] for name in ("geoscore", "valid_format")}
    shown = {**{c: f"{c} ({km} km)" for c, km in COLUMNS.items()}, **extra}
    published = COLUMNS if any(row["paper"] for row in rows) else ()
    heads = ["row", "seeds", *shown.values(), *(f"paper: {column}" for column in published)]
    lines = []
    for row in rows:
        ours = [_with_interval(row, column) for column in shown]
        theirs = [f"{row['paper'][column]:.2f}" if row["paper"] else "–" for column in published]
        lines.append([row["title"], str(len(row["seeds"])), *ours, *theirs])
    return heads, lines


def _gains(outcome: Outcome) -> Table:
    lines = [
        [row["title"], *(_signed(*row["gain"][column]) for column in COLUMNS)]
        for row in outcome["rows"]
        if row["gain"]
    ]
    return ["row", *(f"{column} ({km} km)" for column, km in COLUMNS.items())], lines


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


def figure(outcome: Outcome, column: str = "region") -> Markup:
    """Return two panels on the same rows: ours (mean, interval, a dot for each seed) and, where it
    has one of them, the paper's. Own scale each.
    """
    rows = outcome["rows"]
    ours = [values[column] for row in rows for values in row["by_seed"].values()]
    ours += [min(row["mean"][column] + (row["half_width"][column] or 0.0), 100.0) for row in rows]
    theirs = [row["paper"][column] for row in rows if row["paper"]]
    label = max(LABEL, LETTER * max(len(row["title"]) for row in rows))
    panels = [_panel(label, "ours", "truth", ours, rows, column, _ours)]
    if theirs:
        left = label + PANEL + GAP
        panels.append(_panel(left, "the paper", "guess", theirs, rows, column, _theirs))
    return render(
        "ablation_figure.html",
        width=label + len(panels) * (PANEL + GAP) - GAP + 20,
        height=TOP + ROW * len(rows) + 26,
        top=TOP,
        label=f"{column} hit rate by ablation row",
        panels=panels,
    )


At = Callable[[float], float]


def _panel(
    left: float,
    head: str,
    kind: str,
    values: Sequence[float],
    rows: Sequence[Outcome],
    column: str,
    drawn: Callable[[Outcome, str, At], dict[str, Any]],
) -> dict[str, Any]:
    marks = ticks(0, max([*values, 1.0]), 5)

    def at(value: float) -> float:
        return round(left + min(max(value, 0.0), marks[-1]) / marks[-1] * PANEL, 1)

    found = [(TOP + ROW * (place + 0.5), row) for place, row in enumerate(rows)]
    shown = [
        {"y": y, **drawn(row, column, at)} for y, row in found if kind == "truth" or row["paper"]
    ]
    return {
        "left": left,
        "head": head,
        "kind": kind,
        "marks": [(at(mark), number(mark)) for mark in marks],
        "rows": shown,
    }


def _ours(row: Outcome, column: str, at: At) -> dict[str, Any]:
    mean, half = row["mean"][column], row["half_width"][column]
    said = f"{row['title']}: {mean:.1f}" + ("" if half is None else f" ± {half:.1f}")
    seeds = row["by_seed"].items()
    return {
        "title": row["title"],
        "span": None if half is None else (at(mean - half), at(mean + half)),
        "seeds": [(at(values[column]), f"seed {s}: {values[column]:.1f}") for s, values in seeds],
        "point": (at(mean), said),
    }


def _theirs(row: Outcome, column: str, at: At) -> dict[str, Any]:
    value = row["paper"][column]
    return {
        "title": "",
        "span": None,
        "seeds": (),
        "point": (at(value), f"{row['title']}: {value}"),
    }


def _with_interval(row: Outcome, column: str) -> str:
    half, digits = row["half_width"][column], DIGITS.get(column, 1)
    return f"{row['mean'][column]:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def _difference(found: Outcome) -> str:
    theirs = "–" if found["paper"] is None else f"{found['paper']:+.2f}"
    return f"{theirs}, {_signed(found['ours'], found['half_width'])}"


def _signed(value: float, half: float | None) -> str:
    return f"{value:+.1f}" + ("" if half is None else f" ± {half:.1f}")


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines))


def _texts(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[bool]:
    """Return which columns are words: they stand to the left, columns of figures to the right."""
    return [not any(line[i][:1] in "+-–0123456789" for line in lines) for i in range(len(heads))]
