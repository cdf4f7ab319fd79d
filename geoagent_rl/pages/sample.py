"""The report of `data sample`: per country what Eq. 11 asked for, what the pool had and what was
drawn; maps; entropy.

One HTML file that opens offline, and the same figures as JSON beside it. May know nothing of how
rows are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from geoagent_rl.data.draw import Draw
from geoagent_rl.data.sampling import cell_centre
from geoagent_rl.files import write_json
from geoagent_rl.geo.countries import Country
from geoagent_rl.pages.charts import number
from geoagent_rl.pages.maps import cell_map
from geoagent_rl.pages.page import write_page

ABOUT = (
    "Eq. 11: 0.5 of the weight by length of roads, 0.2 by population, 0.3 by land area; Eq. 12: cells of one degree by "
    "log(1 + population). Population of a cell: the towns of GeoNames in it, so rural people are missing."
)


def write_draw_report(
    html: Path, drawn: Draw, table: Mapping[str, Country], facts: Mapping[str, Any]
) -> Path:
    """Write `html` and, beside it, the same name with .json; return the latter. `facts`: pool,
    seed, options.
    """
    summary = {**facts, **drawn.summary()}
    write_page(html, "GeoAgent-RL · sample", [
        f"<h1>De-biased sample</h1><p class='muted'>{escape(ABOUT)}</p>", _tiles(summary), _facts(summary),
        _maps(drawn), _countries(summary, table),
    ])  # fmt: skip
    beside = html.with_suffix(".json")
    write_json(beside, summary)
    return beside


def show_draw(summary: Mapping[str, Any]) -> list[str]:
    """Return the account in a few lines for the terminal."""
    bits = summary["entropy_bits"]
    lines = [f"{summary['drawn']} of {summary['requested']} drawn from {summary['pool_rows']} rows, "
             f"{summary['countries_drawn']} countries"]  # fmt: skip
    lines += [
        f"{rows} rows cannot be drawn: {why}" for why, rows in summary["not_drawable"].items()
    ]
    for what in ("countries", "cells"):
        pool, drawn = bits[what]["pool"], bits[what]["drawn"]
        lines.append(f"entropy over {what}: pool {pool:.2f} bits, drawn {drawn:.2f} bits "
                     f"(like {2**pool:.0f} and {2**drawn:.0f} equally frequent ones)")  # fmt: skip
    if summary["countries_short"]:
        short = [row for row in summary["countries"] if row["available"] < row["requested"]]
        worst = sorted(short, key=lambda row: row["available"] - row["requested"])[:3]
        named = ", ".join(
            f"{row['iso2']} {row['available']} of {row['requested']}" for row in worst
        )
        lines.append(
            f"the pool has too few of {summary['countries_short']} countries (most: {named})"
        )
    if summary["from_uninhabited_cells"]:
        lines.append(
            f"{summary['from_uninhabited_cells']} drawn from cells without a town: the others were used up"
        )
    return lines


def _tiles(summary: Mapping[str, Any]) -> str:
    bits = summary["entropy_bits"]["countries"]
    tiles = (
        (f"{summary['drawn']:,}", f"drawn of {summary['requested']:,} requested"),
        (f"{summary['pool_rows']:,}", "rows in the pool"),
        (
            str(summary["countries_drawn"]),
            f"countries; the pool is short of {summary['countries_short']}",
        ),
        (
            f"{bits['pool']:.2f} → {bits['drawn']:.2f}",
            "entropy over countries, pool → sample (bits)",
        ),
    )
    cells = "".join(f'<div class="card tile"><b>{b}</b><span>{s}</span></div>' for b, s in tiles)
    return f'<div class="tiles">{cells}</div>'


def _facts(summary: Mapping[str, Any]) -> str:
    bits = summary["entropy_bits"]["cells"]
    facts = {key: summary[key] for key in ("pool", "seed", "minimum", "shortfall")}
    facts |= {
        "excluded": ", ".join(summary["exclude"]) or "none",
        "table of countries": summary["countries_from"],
    }
    facts |= {f"left out: {why}": rows for why, rows in summary["not_drawable"].items()}
    facts["entropy over cells"] = f"{bits['pool']:.2f} → {bits['drawn']:.2f} bits"
    facts["from cells without a town"] = summary["from_uninhabited_cells"]
    items = "".join(
        f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items()
    )
    return f'<dl class="card">{items}</dl>'


def _maps(drawn: Draw) -> str:
    out = []
    for label, counts in (
        ("Pool", drawn.strata.cells()),
        ("Sample", drawn.strata.cells(drawn.rows)),
    ):
        cells = np.flatnonzero(counts)
        lat, lon = cell_centre(cells)
        squares = list(zip(lat.tolist(), lon.tolist(), counts[cells].tolist(), strict=True))
        note = (
            f"{len(cells):,} cells of one degree, the fullest with {number(int(counts.max()))} rows"
        )
        head = f'<h2>{label}</h2><p class="muted small">{note}</p>'
        out.append(
            f'{head}<div class="card">{cell_map(squares, f"map of the {label.lower()}")}</div>'
        )
    return "".join(out)


def _countries(summary: Mapping[str, Any], table: Mapping[str, Country]) -> str:
    heads = ("country", "Eq. 11", "requested", "in the pool", "drawn", "")
    rows = []
    for row in summary["countries"]:
        short = "pool short" if row["available"] < row["requested"] else ""
        name = escape(table[row["iso2"]].name if row["iso2"] in table else row["iso2"])
        cells = (
            f"{row['eq11']:.2f}",
            *(f"{row[key]:,}" for key in ("requested", "available", "drawn")),
            short,
        )
        rows.append(f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{h}</th>" for h in heads)
    return f'<h2>Countries</h2><div class="card scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
