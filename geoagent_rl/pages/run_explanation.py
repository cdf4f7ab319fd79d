"""Why a run's rewards are what they are (rewards/recorded.py): text for a terminal, and a page.

The page holds the account of all answers and cards of few, so it opens as fast after 10,000 answers
as after 10."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from geoagent_rl.answers.forms import read
from geoagent_rl.pages.explanation import CARDS, show, shown_answer
from geoagent_rl.pages.page import render, write_page
from geoagent_rl.pages.rollout_cards import card, distance_km
from geoagent_rl.rewards.recorded import RecordedRun
from geoagent_rl.types import AnswerForm

Verdict = Mapping[str, Any]  # of rewards.recorded
Group = Sequence[Verdict]
CAUSES = 15  # listed in a terminal


def show_summary(run: RecordedRun, summary: Mapping[str, Any]) -> str:
    """Return where the points went, for a terminal."""
    lines = [f"{run.path}: {_headline(summary)}"]
    lines += [
        f"no score of {row['part']} in {row['answers']}: {row['reason']}"
        for row in summary["failed"]
    ]
    if summary["lost"]:
        lines.append("points lost per answer, of which the share, in how many answers, and why:")
    lines += [
        f"  {row['points']:7.4f} {row['share']:6.1%} {row['answers']:7}  {row['part']:12} {row['cause']}"
        for row in summary["lost"][:CAUSES]
    ]
    more = len(summary["lost"]) - CAUSES
    return "\n".join([*lines, *([f"  and {more} smaller causes (--json)"] if more > 0 else [])])


def show_group(group: Group, form: AnswerForm) -> str:
    """Return the answers to one prompt below each other, the best first."""
    first = group[0]
    names = list(first["weights"])
    lines = [f"step {first['step']}, {first['uid']}, truth: {_levels(_truth(first))}"]
    lines.append(
        "  answer    total advantage " + " ".join(f"{n[:11]:>11}" for n in names) + "      km  says"
    )
    for index, total, advantage, scores, km, said in _table(group, names, form):
        cells = " ".join(f"{score:>11}" for score in scores)
        lines.append(f"  {index:>6} {total:>8} {advantage:>9} {cells} {km:>7}  {said}")
    return "\n".join(lines)


def show_verdict(row: Verdict, form: AnswerForm) -> str:
    """Return one answer with what led to each of its scores."""
    parsed = read(row["text"], form)
    parts = {
        name: {**(part.get("details") or {}), **part, "weight": row["weights"].get(name, 0.0)}
        for name, part in row["parts"].items()
    }
    said = {"levels": parsed.levels, "point": parsed.point, "problem": parsed.problem}
    return show({**row, **said, "parts": parts})


def write_run_explanation(
    path: Path, run: RecordedRun, summary: Mapping[str, Any], worst: Group, groups: Sequence[Group]
) -> None:
    """Write the page: the account, the groups side by side, cards of the worst answers."""
    form, name = run.config.policy.answer, run.path.resolve().name
    body = render(
        "run_explanation.html",
        name=name,
        headline=_headline(summary),
        lost=[_lost(row) for row in summary["lost"]],
        groups=[_group(group, form) for group in groups],
        more=max(len(worst) - CARDS, 0),
        cards=[
            (card(f"answer {row['index']}", row, row["weights"], form), show_verdict(row, form))
            for row in worst[:CARDS]
        ],
    )
    write_page(path, f"Rewards of {name}", [body])


def _headline(summary: Mapping[str, Any]) -> str:
    first, last = summary["steps"]
    when = f"step {first}" if first == last else f"steps {first} to {last}"
    mean = (
        "none scorable"
        if summary["mean_total"] is None
        else f"mean total {summary['mean_total']:.4f} of {summary['mean_max']:g}"
    )
    lost = f", {summary['unscorable']} unscorable" if summary["unscorable"] else ""
    return f"{summary['answers']:,} answers of {when}, {mean}{lost}"


def _table(
    group: Group, names: Sequence[str], form: AnswerForm
) -> Iterator[tuple[str, str, str, list[str], str, str]]:
    """Yield (index, total, advantage, scores, km, answer) of each answer, the best first."""
    best_first = sorted(group, key=lambda row: (row["total"] is None, -(row["total"] or 0.0)))
    for row in best_first:
        km, parsed = distance_km(row), read(row["text"], form)
        yield (
            f"#{row['index']}",
            _number(row["total"]),
            f"{row['advantage']:+.4f}",
            [_number(row["parts"][name]["score"]) for name in names],
            "-" if km is None else f"{km:.0f}",
            shown_answer(parsed.levels, parsed.point),
        )


def _lost(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    why = f"{row['part']}: {row['cause']}"
    return why, f"{row['points']:.4f}", f"{row['share']:.1%}", f"{row['answers']:,}"


def _group(group: Group, form: AnswerForm) -> dict[str, Any]:
    """Return the table of a group: title, heads, rows."""
    first = group[0]
    names = list(first["weights"])
    return {
        "title": f"Step {first['step']}, {first['uid']}: {_levels(_truth(first))}",
        "heads": ("answer", "total", "advantage", *names, "km", "says"),
        "rows": [
            (index, total, advantage, *scores, km, said)
            for index, total, advantage, scores, km, said in _table(group, names, form)
        ],
    }


def _truth(row: Verdict) -> list[str]:
    return [row["truth"].get(level, "") for level in ("country", "region", "place")]


def _levels(levels: Sequence[str]) -> str:
    return " | ".join(level or "-" for level in levels)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
