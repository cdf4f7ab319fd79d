"""The page of `eval score --html` and `eval compare --html`: one file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from geoagent_rl.evaluation.predictions import Predictions
from geoagent_rl.evaluation.published import KM, NOTES, TABLES, TITLES
from geoagent_rl.evaluation.summary import MEASURES, recorded
from geoagent_rl.pages.charts import shares_within
from geoagent_rl.pages.maps import world_map
from geoagent_rl.pages.page import percent, render, whole, write_page

Table = Mapping[str, Any]
MAP_PAIRS = 250
MOST_BUCKETS = 40  # rows of one table
COLOURS = ("total", *(f"part-{i}" for i in range(6)))  # of page.css


def write_eval_page(
    path: Path, systems: Sequence[Predictions], table: Table, benchmark: str = ""
) -> None:
    """Write the page of a `table`: {"systems": {name: summarise()}} and, of a comparison, n,
    left_out and differences."""
    names = ", ".join(system.name for system in systems)
    colors = [f"var(--{COLOURS[i % len(COLOURS)]})" for i in range(len(systems))]
    lines = [(s.name, s.km, color) for s, color in zip(systems, colors, strict=True)]
    body = render(
        "evaluation.html",
        names=names,
        scale=f"{next(iter(table['systems'].values()))['geoscore_scale_km']:g}",
        table={"differences": {}, "left_out": {}, "n": 0} | dict(table),
        kilometres=MEASURES[:-1],
        published=_published(benchmark, table["systems"]),
        within=shares_within(lines),
        legend=[(name, color) for name, _, color in lines],
        each=[
            {"name": s.name, "map": _map(s), "tables": _tables(table["systems"][s.name])}
            for s in systems
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, f"GeoAgent-RL · {names}", [body])


def _shown(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], note: str = ""
) -> Table:
    return {"title": title, "heads": heads, "rows": rows, "note": note}


def _published(benchmark: str, systems: Mapping[str, Table]) -> Table | None:
    if not benchmark:
        return None
    heads = ["system", "trained on", *(f"≤ {km} km" for km in KM), "GeoScore"]
    rows: list[list[str]] = []
    for row in TABLES[benchmark]:
        cells = ["–" if v is None else f"{v:.2f}" for v in row.hit]
        score = "–" if row.geoscore is None else f"{row.geoscore:,.1f}"
        rows.append([row.system, row.data, *cells, score])
    bold = Markup("<b>{}</b>").format
    for name, t in systems.items():
        cells = [bold(f"{100 * t['hit'][km]:.2f}") for km in KM]
        rows.append([bold(name), "this file", *cells, bold(f"{t['geoscore']:,.1f}")])
    return _shown(f"Beside the paper: {TITLES[benchmark]}", heads, rows, " ".join(NOTES))


def _tables(table: Table) -> list[Table]:
    """Return buckets, failures, means and calibration of one system."""
    out = []
    for kind, groups in table["buckets"].items():
        heads = [kind, "n", "failed", *(f"≤ {km} km" for km in KM), "median km", "GeoScore"]
        rows = [_bucket(name, g) for name, g in list(groups.items())[:MOST_BUCKETS]]
        more = len(groups) - len(rows)
        note = f"{more} smaller ones are not shown." if more else ""
        out.append(_shown(f"By {kind}", heads, rows, note))
    if table["failures"]:
        failures = list(table["failures"].items())[:MOST_BUCKETS]
        rows = [[why[:200], f"{n:,}"] for why, n in failures]
        out.append(_shown("Failures", ["reason", "rows"], rows))
    if means := recorded(table):
        rows = [[name.replace("_", " "), f"{value:.3f}"] for name, value in means.items()]
        note = "Reasoning consistency and names as the rewards judge them."
        out.append(_shown("Means", ["", "mean"], rows, note))
    return [*out, *_calibration(table["calibration"])]


def _bucket(name: str, g: Table) -> list[str]:
    hits = [percent(g["hit"][km]) for km in KM]
    return [
        name,
        whole(g["n"]),
        whole(g["failed"]),
        *hits,
        whole(g["median_km"]),
        whole(g["geoscore"]),
    ]


def _calibration(found: Table) -> list[Table]:
    if not found:
        return []
    rows = []
    for stage, figures in found.items():
        order = figures["concordance"]
        for name, g in figures["by"].items():
            right = f"{g['right']:.1%} ≤ {figures['right_within_km']} km"
            cells = [name, whole(g["n"]), right, whole(g["median_km"])]
            rows.append([stage, *cells, "–" if order is None else f"{order:.2f}"])
    heads = ["stage", "uncertainty", "n", "right", "median km", "concordance"]
    note = "Concordance: of two photographs with different statements, how often the doubtful one is farther off."
    return [_shown("Does the stated uncertainty mean anything?", heads, rows, note)]


def _map(system: Predictions) -> str:
    """Return true and predicted places of photographs spread evenly over all errors."""
    rows = np.flatnonzero(system.located)
    if not len(rows):
        return ""
    rows = rows[np.argsort(system.km[rows], kind="stable")]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, MAP_PAIRS).round().astype(int))]
    pairs = []
    for i in rows:
        hover = f"{system.uids[i]}: {system.km[i]:,.0f} km"
        pairs.append((tuple(system.truth[i].tolist()), tuple(system.predicted[i].tolist()), hover))
    note = (
        f"{len(pairs)} of {int(system.located.sum()):,} located photographs, evenly from the best "
        "to the worst; density: all of them"
    )
    answers = map(tuple, system.predicted[system.located].tolist())
    return world_map(pairs, f"map of {system.name}'s errors", note, answers)
