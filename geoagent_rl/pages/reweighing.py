"""What other weights would have made of a run (rewards/reweigh.py), for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def show_reweighing(table: Mapping[str, Any]) -> str:
    """Return the table of `reward reweigh`."""
    lines = [f"{table['run']}: {table['answers']} answers in {table['groups']} groups"]
    lines += [f"  {name:14} {a:g} -> {b:g}" for name, (a, b) in table["weights"].items() if a != b]
    lines += [
        f"{name:36} {value}"
        for name, value in (
            ("groups with another best answer", _share(table["flipped"], table["groups"])),
            ("pairs in the other order", _share(table["swapped"], table["pairs"])),
            ("advantages of the other sign", _share(table["sign_changes"], table["answers"])),
            ("mean change of an advantage", f"{table['mean_advantage_change']:.4f}"),
            ("mean total", _both([_number(mean) for mean in table["mean_total"]])),
            ("scored answers", _both(table["scored"])),
            ("groups with nothing to compare", _both(table["zero_variance"])),
        )
    ]
    if table["largest"]:
        lines.append("groups that change most:")
        lines.append("    step  pairs swapped  largest change  best before > after    uid")
    for row in table["largest"]:
        before, after = (",".join(f"#{i}" for i in side) or "-" for side in row["best"])
        best = f"{before} > {after}" if row["flipped"] else f"{before} (same)"
        lines.append(
            f"  {row['step']:6}  {row['swapped']:4} of {row['pairs']:<6}"
            f"  {row['largest_advantage_change']:14.4f}  {best:21}  {row['uid']}"
        )
    return "\n".join(lines)


def _share(count: int, whole: int) -> str:
    return f"{count} of {whole}" + (f" ({count / whole:.1%})" if whole else "")


def _both(values: Sequence[Any]) -> str:
    return " -> ".join(map(str, values))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
