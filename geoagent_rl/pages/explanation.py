"""Explanations of rewards (rewards/explain.py) as text for a terminal and as a page in the report's
style.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geoagent_rl.answers.forms import position
from geoagent_rl.geo.coordinates import Pair
from geoagent_rl.pages.page import render, write_page
from geoagent_rl.pages.rollout_cards import card

Explanation = Mapping[str, Any]  # of rewards.explain; a part of one has the same form
INDENT = " " * 15
CARDS = 200  # completions on a page: with 10,000 no browser opens it


def show(row: Explanation) -> str:
    """Return one completion as text: a line with the total, then every part with what led to its
    score."""
    truth = row["truth"]
    where = f"({truth['lat']:.4f}, {truth['lon']:.4f})"
    lines = [
        f"{row['uid']} ({_where(row)}): {_total(row)}",
        f"  answer       {shown_answer(row['levels'], row['point'])}"
        + (f"   [{row['problem']}]" if row["problem"] else ""),
        f"  truth        {_levels([truth['country'], truth['region'], truth['place']])} {where}",
    ]
    for name, part in row["parts"].items():
        weight = f" x {part['weight']:g}" if part["weight"] else " (no weight)"
        score = "  --  " if part["score"] is None else f"{part['score']:.4f}"
        reason = f"{part['reason']}" if part["reason"] else ""
        said = [line for line in [reason, *DETAILS.get(name, _details)(part)] if line]
        lines.append(f"  {name:12} {score}{weight}".ljust(34) + (said[0] if said else ""))
        lines += [INDENT + line for line in said[1:]]
    return "\n".join(lines) + "\n"


def write_explanation(path: Path, source: Path, rows: Sequence[Explanation]) -> None:
    """Write the page: one card per completion, with the text explanation under it."""
    scored = [row["total"] for row in rows if row["total"] is not None]
    mean = (
        f"mean total {sum(scored) / len(scored):.3f} of {rows[0]['max_total']:g}"
        if scored
        else "none scorable"
    )
    cards = []
    for row in rows[:CARDS]:
        parts = {name: {**part, "details": part} for name, part in row["parts"].items()}
        shown = {key: row[key] for key in ("uid", "truth", "total")} | {"text": row["completion"]}
        cards.append(
            (
                card(f"line {row['line']}", shown | {"parts": parts}, row["weights"], row["form"]),
                show(row),
            )
        )
    judged = any(row["parts"]["consistency"]["judged"] for row in rows)
    body = render(
        "explanation.html", name=source.name, count=len(rows), mean=mean, judged=judged, cards=cards
    )
    write_page(path, f"Rewards of {source.name}", [body])


def show_comparison(table: Explanation) -> str:
    """Return what rewards.explain.compare() found, for a terminal."""
    correlation, changed = table["rank_correlation"], table["best_changed"]
    lines = [
        f"{table['n']} completions"
        + (f", {table['unscorable']} unscorable" if table["unscorable"] else "")
    ]
    for name, config, mean, most in zip(
        "AB", table["configs"], table["means"], table["max_totals"], strict=True
    ):
        lines.append(f"  {name}  mean {_number(mean)} of {most:g}  {config}")
    lines.append(f"rank correlation (Spearman) {_number(correlation)}")
    if changed is not None:
        lines.append(
            f"best completion of a photograph changes in {changed:.1%} of {table['groups']} groups"
        )
    lines.append(
        "largest differences, in shares of the maximum:" if table["largest"] else "no difference"
    )
    for row in table["largest"]:
        a, b = row["totals"]
        lines.append(
            f"  {row['difference']:+.3f}  A {a:.3f}  B {b:.3f}  {row['uid']} (line {row['line']})"
        )
    return "\n".join(lines)


def _where(row: Explanation) -> str:
    """Name the line of a file, or the answer of a run."""
    if "line" in row:
        return f"line {row['line']}"
    return f"step {row['step']}, answer {row['index']}, advantage {row['advantage']:+.4f}"


def _total(row: Explanation) -> str:
    if row["total"] is None:
        return "unscorable"
    judged = row["parts"].get("consistency", {}).get("judged", True)
    left_out = "" if judged else "; consistency not judged, its weight left out"
    return f"total {row['total']:.4f} of {row['max_total']:g}{left_out}"


def shown_answer(levels: Sequence[str], point: Pair | None) -> str:
    """Return the names of an answer and the position that it gives."""
    named = [_levels(levels)] if any(levels) or not point else []
    return "   ".join([*named, f"({position(*point)})"] if point else named)


def _levels(levels: Sequence[str]) -> str:
    return " | ".join(level or "-" for level in levels)


def _spatial(part: Explanation) -> list[str]:
    if part.get("distance_km") is None:
        return []
    named = f"{part['name']} ({part['country_code']}) at "
    where = "" if part["level"] == "position" else named
    km, tau = part["distance_km"], part["tau_km"]
    paper = math.isclose(part["score"], math.exp(-km / tau), abs_tol=1e-9)  # not another curve
    how = f", exp(-{km:.1f}/{tau:g})" if paper else ""
    at = position(part["lat"], part["lon"])
    return [f"{part['level']} {where}{at} by {part['provider']}: {km:.1f} km{how}"]


def _semantic(part: Explanation) -> list[str]:
    lines = []
    for row in part.get("levels", ()):
        if "similarity" not in row:
            lines.append(f"{row['level']}: the truth names none")
            continue
        gate = f", gate {row['gate']:g}" if row["gate"] else ""
        lines.append(
            f"{row['level']}: {row['predicted'] or '-'} ~ {row['truth']}: {row['similarity']:.4f}"
            f"{' by ' + row['by'] if row['by'] else ''}{gate}, counts {row['counted']:.4f} x {row['weight']:.3g}"
        )
    return lines


def _consistency(part: Explanation) -> list[str]:
    lines = []
    for row in part.get("stages", ()):
        said = (
            f"judge not asked: {row['not_asked']}"
            if row["judge"] is None
            else f"judge: {row['judge'] or '-'}"
        )
        verdict = (
            ""
            if row["judge"] is None
            else f", agrees by {row['by']}"
            if row["agree"]
            else ", disagrees"
        )
        length = f"{row['characters']} characters, length factor {row['length_factor']:.4f} x {row['weight']:.3g}"
        lines.append(f"{row['stage']}: concludes {row['conclusion']}; {said}{verdict}; {length}")
        if row.get("judge_input"):
            lines.append(f"    asked: {row['judge_input']}")
    return lines


def _details(part: Explanation) -> list[str]:
    """Return the details of any other part, one of the user's own too; lists are left out."""
    kept = {key: value for key, value in part.items() if key not in OF_EVERY_PART}
    return [
        ", ".join(
            f"{key} {value}" for key, value in kept.items() if isinstance(value, str | int | float)
        )
    ]


OF_EVERY_PART = ("kind", "score", "reason", "weight", "seconds", "attempts", "details")
DETAILS: dict[str, Callable[[Explanation], list[str]]] = {
    "spatial": _spatial,
    "semantic": _semantic,
    "consistency": _consistency,
}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
