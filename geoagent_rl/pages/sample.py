"""The report of `data sample`: per country what Eq. 11 asked for, what the pool had and what was
drawn; maps; entropy.

One HTML file that opens offline, and the same figures as JSON beside it. May know nothing of how
rows are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geoagent_rl.data.draw import Draw
from geoagent_rl.data.sampling import cell_centre
from geoagent_rl.files import write_json
from geoagent_rl.geo.countries import Country
from geoagent_rl.pages.charts import number
from geoagent_rl.pages.maps import cell_map
from geoagent_rl.pages.page import render, write_page

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
    body = render(
        "sample.html",
        about=ABOUT,
        tiles=tiles,
        facts=_facts(summary),
        maps=_maps(drawn),
        countries=_countries(summary, table),
    )
    write_page(html, "GeoAgent-RL · sample", [body])
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


def _facts(summary: Mapping[str, Any]) -> dict[str, Any]:
    bits = summary["entropy_bits"]["cells"]
    facts = {key: summary[key] for key in ("pool", "seed", "minimum", "shortfall")}
    facts |= {
        "excluded": ", ".join(summary["exclude"]) or "none",
        "table of countries": summary["countries_from"],
    }
    facts |= {f"left out: {why}": rows for why, rows in summary["not_drawable"].items()}
    facts["entropy over cells"] = f"{bits['pool']:.2f} → {bits['drawn']:.2f} bits"
    facts["from cells without a town"] = summary["from_uninhabited_cells"]
    return facts


def _maps(drawn: Draw) -> list[tuple[str, str, str]]:
    out: list[tuple[str, str, str]] = []
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
        out.append((label, note, cell_map(squares, f"map of the {label.lower()}")))
    return out


def _countries(summary: Mapping[str, Any], table: Mapping[str, Country]) -> list[tuple[str, ...]]:
    rows = []
    for row in summary["countries"]:
        name = table[row["iso2"]].name if row["iso2"] in table else row["iso2"]
        counts = (f"{row[key]:,}" for key in ("requested", "available", "drawn"))
        short = "pool short" if row["available"] < row["requested"] else ""
        rows.append((name, f"{row['eq11']:.2f}", *counts, short))
    return rows
