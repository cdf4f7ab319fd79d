"""The page of `eval score --html` and `eval compare --html`: one file that opens offline and needs
no script.

Names in prediction files are untrusted and escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from geoagent_rl.evaluation.predictions import Predictions
from geoagent_rl.evaluation.published import KM, NOTES, TABLES, TITLES
from geoagent_rl.evaluation.summary import MEASURES, recorded
from geoagent_rl.pages.charts import shares_within, world_map
from geoagent_rl.pages.page import write_page

Table = Mapping[str, Any]
MAP_PAIRS = 250
MOST_BUCKETS = 40  # rows of one table
COLOURS = ("--total", "--spatial", "--semantic", "--consistency", "--format", "--exact_match")
CONVENTION = (
    "Great-circle distance on a sphere of 6371 km; a hit is at most the threshold; a prediction that failed is a miss "
    "everywhere and scores 0. In brackets: 95 % bootstrap interval."
)


def write_eval_page(
    path: Path, systems: Sequence[Predictions], table: Table, benchmark: str = ""
) -> None:
    """`table`: {"systems": {name: summarise()}} and, of a comparison, n, left_out and
    differences.
    """
    names = ", ".join(system.name for system in systems)
    scale = next(iter(table["systems"].values()))["geoscore_scale_km"]
    body = [
        f"<h1>Evaluation · {escape(names)}</h1>",
        f'<p class="muted">{escape(CONVENTION)} GeoScore = 5000 exp(−d / {scale:g} km).</p>',
        _systems(table["systems"]),
        _differences(table),
        _published(benchmark, table["systems"]),
        _curves(systems),
        *(_one(system, table["systems"][system.name]) for system in systems),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, f"GeoAgent-RL · {names}", body)


def _systems(systems: Mapping[str, Table]) -> str:
    heads = [
        "system",
        "n",
        "failed",
        *(f"≤ {km} km" for km in MEASURES[:-1]),
        "median km",
        "GeoScore",
    ]
    rows = []
    for name, t in systems.items():
        inside = t["intervals"]
        hits = [f"{t['hit'][km]:.1%}<br>{_span(inside[km], '.1%')}" for km in MEASURES[:-1]]
        median = "–" if t["median_km"] is None else f"{t['median_km']:,.0f}"
        score = f"{t['geoscore']:,.0f}<br>{_span(inside['geoscore'], ',.0f')}"
        rows.append([escape(name), f"{t['n']:,}", f"{t['failed']:,}", *hits, median, score])
    return _table("Systems", heads, rows)


def _span(interval: Sequence[float], form: str) -> str:
    return f'<span class="muted small">[{interval[0]:{form}}, {interval[1]:{form}}]</span>'


def _differences(table: Table) -> str:
    if not table.get("differences"):
        return ""
    baseline = next(iter(table["systems"]))
    heads = [f"minus {escape(baseline)}", *(f"≤ {km} km" for km in MEASURES[:-1]), "GeoScore"]
    rows = []
    for name, measures in table["differences"].items():
        cells = []
        for measure in MEASURES:
            d, form = measures[measure], "+,.0f" if measure == "geoscore" else "+.1%"
            tone = "" if d["p"] >= 0.05 else ' class="yes"' if d["mean"] > 0 else ' class="no"'
            cells.append(
                f"<span{tone}>{d['mean']:{form}}</span><br>{_span((d['low'], d['high']), form)}"
            )
        rows.append([escape(name), *cells])
    left = "; ".join(
        f"{n} rows of {escape(name)} left out" for name, n in table["left_out"].items() if n
    )
    note = f"Paired bootstrap on the {table['n']:,} photographs that all systems have. {left}"
    return _table("Differences", heads, rows, note)


def _published(benchmark: str, systems: Mapping[str, Table]) -> str:
    if not benchmark:
        return ""
    heads = ["system", "trained on", *(f"≤ {km} km" for km in KM), "GeoScore"]
    rows = []
    for row in TABLES[benchmark]:
        cells = ["–" if v is None else f"{v:.2f}" for v in row.hit]
        rows.append(
            [
                escape(row.system),
                row.data,
                *cells,
                "–" if row.geoscore is None else f"{row.geoscore:,.1f}",
            ]
        )
    for name, t in systems.items():
        cells = [f"<b>{100 * t['hit'][km]:.2f}</b>" for km in KM]
        rows.append([f"<b>{escape(name)}</b>", "this file", *cells, f"<b>{t['geoscore']:,.1f}</b>"])
    return _table(f"Beside the paper: {TITLES[benchmark]}", heads, rows, " ".join(NOTES))


def _curves(systems: Sequence[Predictions]) -> str:
    lines = [(s.name, s.km, f"var({COLOURS[i % len(COLOURS)]})") for i, s in enumerate(systems)]
    legend = "".join(
        f'<i class="swatch" style="--c:{c}"></i>{escape(name)} ' for name, _, c in lines
    )
    chart = f'<div class="card">{shares_within(lines)}<p class="small">{legend}</p></div>'
    return f"<h2>Share within a distance</h2>{chart}"


def _one(system: Predictions, table: Table) -> str:
    """Map, buckets, failures and calibration of one system."""
    out = [f"<h2>{escape(system.name)}</h2>", _map(system)]
    for kind, groups in table["buckets"].items():
        heads = [kind, "n", "failed", *(f"≤ {km} km" for km in KM), "median km", "GeoScore"]
        rows = [_bucket(name, g) for name, g in list(groups.items())[:MOST_BUCKETS]]
        more = len(groups) - len(rows)
        out.append(
            _table(f"By {kind}", heads, rows, f"{more} smaller ones are not shown." if more else "")
        )
    if table["failures"]:
        rows = [
            [escape(why[:200]), f"{n:,}"]
            for why, n in list(table["failures"].items())[:MOST_BUCKETS]
        ]
        out.append(_table("Failures", ["reason", "rows"], rows))
    if means := recorded(table):
        rows = [[name.replace("_", " "), f"{value:.3f}"] for name, value in means.items()]
        out.append(
            _table(
                "Means",
                ["", "mean"],
                rows,
                "Reasoning consistency and names as the rewards judge them.",
            )
        )
    return "".join([*out, _calibration(table["calibration"])])


def _bucket(name: str, g: Table) -> list[str]:
    median = "–" if g["median_km"] is None else f"{g['median_km']:,.0f}"
    hits = [f"{g['hit'][km]:.1%}" for km in KM]
    return [escape(name), f"{g['n']:,}", f"{g['failed']:,}", *hits, median, f"{g['geoscore']:,.0f}"]


def _calibration(found: Table) -> str:
    if not found:
        return ""
    rows = []
    for stage, figures in found.items():
        order = figures["concordance"]
        for name, g in figures["by"].items():
            median = "–" if g["median_km"] is None else f"{g['median_km']:,.0f}"
            cells = [
                name,
                f"{g['n']:,}",
                f"{g['right']:.1%} ≤ {figures['right_within_km']} km",
                median,
            ]
            rows.append([stage, *cells, "–" if order is None else f"{order:.2f}"])
    heads = ["stage", "uncertainty", "n", "right", "median km", "concordance"]
    note = "Concordance: of two photographs with different statements, how often the doubtful one is farther off."
    return _table("Does the stated uncertainty mean anything?", heads, rows, note)


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
    note = f"{len(pairs)} of {int(system.located.sum()):,} located photographs, evenly from the best to the worst."
    legend = (
        '<i class="key truth"></i>true place<i class="key guess"></i>predicted, joined by a line'
    )
    return f'<div class="card">{world_map(pairs)}<p class="muted small">{note}{legend}</p></div>'


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    """Cells are HTML."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    said = f'<p class="small muted">{escape(note)}</p>' if note else ""
    table = f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
    return f'<h2>{escape(title)}</h2><div class="card wide">{table}{said}</div>'
