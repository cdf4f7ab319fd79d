"""What other weights would have made of a run (rewards/reweigh.py): text for a terminal, and a
page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoagent_rl.pages.page import render, write_page


def show_reweighing(table: Mapping[str, Any]) -> str:
    """Return the table of `reward reweigh`."""
    lines = [_headline(table)]
    lines += [f"  {name:14} {before} -> {after}" for name, before, after in _weights(table)]
    lines += [f"{name:36} {value}" for name, value in _figures(table)]
    if table["largest"]:
        lines.append("groups that change most:")
        lines.append("    step  pairs swapped  largest change  best before > after    uid")
    for row in table["largest"]:
        before, after = _best(row)
        best = f"{before} > {after}" if row["flipped"] else f"{before} (same)"
        lines.append(
            f"  {row['step']:6}  {row['swapped']:4} of {row['pairs']:<6}"
            f"  {row['largest_advantage_change']:14.4f}  {best:21}  {row['uid']}"
        )
    return "\n".join(lines)


def write_reweighing(path: Path, table: Mapping[str, Any]) -> None:
    """Write the page: the weights, what they change, the groups that change most."""
    groups = [
        (
            row["uid"],
            f"{row['step']:,}",
            f"{row['swapped']} of {row['pairs']}",
            f"{row['largest_advantage_change']:.4f}",
            *_best(row),
            "yes" if row["flipped"] else "no",
        )
        for row in table["largest"]
    ]
    name = Path(table["run"]).resolve().name
    body = render(
        "reweighing.html",
        name=name,
        headline=_headline(table),
        weights=_weights(table),
        figures=_figures(table),
        groups=groups,
    )
    write_page(path, f"Other weights for {name}", [body])


def _headline(table: Mapping[str, Any]) -> str:
    return f"{table['run']}: {table['answers']} answers in {table['groups']} groups"


def _weights(table: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return part, weight before and after, of the parts whose weight changes."""
    return [(name, f"{a:g}", f"{b:g}") for name, (a, b) in table["weights"].items() if a != b]


def _figures(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("groups with another best answer", _share(table["flipped"], table["groups"])),
        ("pairs in the other order", _share(table["swapped"], table["pairs"])),
        ("advantages of the other sign", _share(table["sign_changes"], table["answers"])),
        ("mean change of an advantage", f"{table['mean_advantage_change']:.4f}"),
        ("mean total", _both([_number(mean) for mean in table["mean_total"]])),
        ("scored answers", _both(table["scored"])),
        ("groups with nothing to compare", _both(table["zero_variance"])),
    ]


def _best(row: Mapping[str, Any]) -> list[str]:
    """Return a group's best answers before and after."""
    return [",".join(f"#{i}" for i in side) or "-" for side in row["best"]]


def _share(count: int, whole: int) -> str:
    return f"{count} of {whole}" + (f" ({count / whole:.1%})" if whole else "")


def _both(values: Sequence[Any]) -> str:
    return " -> ".join(map(str, values))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
