"""What `eval` prints for people. Works on the figures of summary.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoagent_rl.evaluation.published import KM, TABLES, TITLES
from geoagent_rl.evaluation.summary import MEASURES, recorded

Table = Mapping[str, Any]
EXAMPLES = 5
SURE = 0.05


def show_score(table: Table) -> list[str]:
    """Return the figures of one system for a terminal."""
    hits = "  ".join(f"{km} km {share:.2%}" for km, share in table["hit"].items())
    lines = [f"{table['n']} predictions, {table['failed']} failed", f"hit  {hits}"]
    score = f"GeoScore {table['geoscore']:.1f} (scale {table['geoscore_scale_km']:g} km)"
    if table["mean_km"] is not None:
        score = f"mean {table['mean_km']:.1f} km, median {table['median_km']:.1f} km, {score}"
    lines.append(score)
    between = "  ".join(f"{name} km {low:.2%}..{high:.2%}" for name, (low, high) in table["intervals"].items()
                        if name != "geoscore")  # fmt: skip
    low, high = table["intervals"]["geoscore"]
    lines.append(f"95 % intervals  {between}  GeoScore {low:.0f}..{high:.0f}")
    lines += [f"failed {n}: {why}" for why, n in list(table["failures"].items())[:EXAMPLES]]
    if means := recorded(table):
        lines.append("means  " + "  ".join(f"{name} {value:.3f}" for name, value in means.items()))
    for kind, groups in table["buckets"].items():
        lines += [
            "",
            f"by {kind:<23}{'n':>6}{'failed':>8}"
            + "".join(f"{km + ' km':>9}" for km in KM)
            + "  GeoScore",
        ]
        lines += [_line(name, group) for name, group in groups.items()]
    return lines + show_calibration(table["calibration"])


def _line(name: str, group: Table) -> str:
    hits = "".join(f"{group['hit'][km]:>9.1%}" for km in KM)
    return f"  {name[:24]:<24}{group['n']:>6}{group['failed']:>8}{hits}{group['geoscore']:>10.0f}"


def show_calibration(found: Table) -> list[str]:
    """Return the calibration for a terminal."""
    lines = []
    for stage, figures in found.items():
        groups = "; ".join(
            f"{name} {g['right']:.1%} of {g['n']}" for name, g in figures["by"].items()
        )
        order = figures["concordance"]
        says = "" if order is None else f", concordance {order:.2f} (0.5: says nothing)"
        lines.append(
            f"uncertainty of the {stage}, right within {figures['right_within_km']} km: {groups}{says}"
        )
    return ["", *lines] if lines else []


def show_comparison(table: Table) -> list[str]:
    """Return the comparison of systems for a terminal."""
    lines = [f"{table['n']} photographs that all have"]
    lines += [f"{left} rows of {name} are left out: another system lacks them"
              for name, left in table["left_out"].items() if left]  # fmt: skip
    lines += [
        "",
        f"{'system':<26}{'n':>6}{'failed':>8}"
        + "".join(f"{km + ' km':>9}" for km in KM)
        + "  GeoScore",
    ]
    lines += [_line(name, system) for name, system in table["systems"].items()]
    baseline = next(iter(table["systems"]))
    for name, measures in table["differences"].items():
        lines += ["", f"{name} - {baseline}: difference [95 % interval], p"]
        for measure in MEASURES:
            lines.append("  " + _difference(measure, measures[measure]))
    return lines


def _difference(measure: str, d: Table) -> str:
    if measure == "geoscore":
        said = f"GeoScore {d['mean']:+8.1f}  [{d['low']:+.1f}, {d['high']:+.1f}]"
    else:
        said = f"{measure + ' km':<8} {d['mean']:+8.2%}  [{d['low']:+.2%}, {d['high']:+.2%}]"
    return f"{said}  p {d['p']:.3f}{'  *' if d['p'] < SURE else ''}"


def show_published(benchmark: str, systems: Mapping[str, Table]) -> list[str]:
    """Return the paper's table with ours below it; [] without a benchmark."""
    if not benchmark:
        return []
    lines = ["", f"GeoAgent paper, {TITLES[benchmark]} (per cent within km)",
             f"  {'system':<24}" + "".join(f"{km:>8}" for km in KM) + "  GeoScore  trained on"]  # fmt: skip
    for row in TABLES[benchmark]:
        cells = "".join("       -" if value is None else f"{value:>8.2f}" for value in row.hit)
        score = "" if row.geoscore is None else f"{row.geoscore:.1f}"
        lines.append(f"  {row.system:<24}{cells}{score:>10}  {row.data}".rstrip())
    for name, table in systems.items():
        cells = "".join(f"{100 * table['hit'][km]:>8.2f}" for km in KM)
        lines.append(f"* {name[:24]:<24}{cells}{table['geoscore']:>10.1f}  (this file)")
    return lines
