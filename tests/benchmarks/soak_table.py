"""The soak's table in docs/faults.md: what its campaigns ran, struck and found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- soak: written by the command -->", "<!-- soak ends -->"


def write(page: Path, folder: Path) -> None:
    """Put the table of all rounds in `folder` between the page's two marks."""
    text = page.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n{table(folder)}{END}{tail}")


def table(folder: Path) -> str:
    """Markdown. A round that was played again counts as it ended last."""
    every = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    last = {(row["program"], row["seed"], row["round"]): row for row in every}
    lines = []
    for program in sorted({row["program"] for row in every}):
        own = [row for row in last.values() if row["program"] == program]
        again = sum(row["program"] == program for row in every) - len(own)
        lines += [summary(program, own, again), "", "| fault | times |", "|---|---|"]
        struck = Counter(kind for row in own for kind in row["struck"])
        lines += [f"| {kind} | {times} |" for kind, times in struck.most_common()]
        lines.append("")
    return "\n".join(lines)


def summary(program: str, rows: list[dict[str, Any]], again: int) -> str:
    """One line on the rounds of a program; again: how many were played twice."""
    hours = sum(row["seconds"] for row in rows) / 3600
    seeds = ", ".join(map(str, sorted({row["seed"] for row in rows})))
    wrong = [row for row in rows if row["problems"]]
    named = ", ".join(f"{row['seed']}/{row['round']}" for row in wrong)
    return (
        f"{program}: {len(rows)} rounds in {hours:.2f} h, {sum(row['lives'] for row in rows)} lives"
        f", {sum(len(row['struck']) for row in rows)} faults, seeds {seeds}; rounds with a"
        f" violation: {len(wrong)}"
        + (f" (seed/round {named})" if named else "")
        + (f"; {again} played again after a mend" if again else "")
    )
