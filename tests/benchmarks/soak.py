"""The soak: short runs in turn, each hurt at random moments, and what must be true after each.

    python -m tests.benchmarks.soak --hours 2 --seed 0       real Ray, vLLM, DeepSpeed, Redis
    python -m tests.benchmarks.soak --hours 0.1 --stand-in   the run's own code only, many rounds
    python -m tests.benchmarks.soak --seed 0 --first 17 --rounds 1   that round again
    python -m tests.benchmarks.soak --table docs/faults.md   what all campaigns in --into have found

A round starts a run, lets faults strike it (soak_plan.py says which and when, from the seed), and
continues it with --resume as often as it ends before its time. Then the run's files are compared
with an undisturbed run's (soak_checks.py), and nothing may be left on the machine. Exit code 1 when
anything was wrong; DIR/rounds.jsonl gets a line for every round."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from geoagent_rl.run import records
from tests.benchmarks import soak_table
from tests.benchmarks.soak_checks import violations
from tests.benchmarks.soak_plan import TOGETHER, Hit, NothingThereError, Round, Undo, drawn

LIVES = 8  # of one run; more than it has faults
AGAIN_S = 0.2  # between two looks for the part that a fault is to strike


class Life(Protocol):
    """One process of a run, from its start to its end."""

    def lines(self) -> list[str]:
        """What it has said so far."""

    def ended(self) -> int | None:
        """Its exit code; None while it lives."""

    def kill(self) -> None:
        """End it and everything below it."""


class Program(Protocol):
    """What starts runs, and what can befall them."""

    name: str
    poll_s: float
    limit_s: float  # of one life: longer is a run that hangs
    longest_s: float  # between a line of the run and the fault that it is the moment of
    steps: int
    samples: int  # of a step
    moments: Mapping[str, Sequence[str]]
    # each returns what ends the fault, where it ends; raises NothingThereError
    kinds: Mapping[str, Callable[[Life], Undo | None]]

    def life(self, folder: Path, shape: str) -> AbstractContextManager[Life]:
        """Start the run in `folder`, or continue it."""

    def left_behind(self) -> Iterator[str]:
        """Yield what is left on the machine; remove it."""


@dataclass
class Outcome:
    """What became of a round."""

    struck: list[str] = field(default_factory=list)
    lives: int = 0
    problems: list[str] = field(default_factory=list)


def strike(program: Program, life: Life, hits: list[Hit], outcome: Outcome) -> int | None:
    """Follow one life to its end, taking from `hits` what strikes it; its exit code, None when it
    hung.
    """
    begin, seen, due = time.monotonic(), 0, None
    undo: list[Undo] = []
    while (code := life.ended()) is None:
        now = time.monotonic()
        for line in life.lines()[seen:]:
            seen += 1
            if hits and due is None and re.search(hits[0].moment, line):
                due = now + hits[0].after_s
        while hits and due is not None and now >= due:
            try:
                if ends := program.kinds[hits[0].kind](life):
                    undo.append((now + ends[0], ends[1]))
            except NothingThereError:
                due = now + AGAIN_S  # it strikes as soon as the part is there
                continue
            outcome.struck.append(hits.pop(0).kind)
            due = now if hits and hits[0].moment == TOGETHER else None
        for entry in [entry for entry in undo if now >= entry[0]]:
            undo.remove(entry)
            entry[1]()
        if now - begin > program.limit_s:
            life.kill()
            break
        time.sleep(program.poll_s)
    for _, end in undo:
        end()
    return code


def play(program: Program, plan: Round, folder: Path) -> Outcome:
    """One round: faults, resumes and an end."""
    outcome, hits = Outcome(), list(plan.hits)
    for _ in range(LIVES):
        outcome.lives += 1
        with program.life(folder, plan.shape) as life:
            code = strike(program, life, hits, outcome)
            said = life.lines()
        if code is None:
            outcome.problems.append(f"hung: {' '.join(said[-3:])[-300:]}")
        if traces := [i for i, line in enumerate(said) if "Traceback" in line]:
            outcome.problems.append(f"a traceback: {' | '.join(said[traces[0] :])[:2000]}")
        if code == 0:
            return outcome
    outcome.problems.append(f"not finished in {LIVES} lives: {' '.join(said[-3:])[-300:]}")
    return outcome


def reference(program: Program, shape: str, into: Path) -> Path:
    """Return the undisturbed run of a shape, made once for a folder."""
    folder = into / f"undisturbed-{program.name}-{shape}"
    if not (folder / "done.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        calm = play(program, Round(0, 0, shape, ()), folder)
        if calm.problems or calm.lives > 1:
            sys.exit(f"the undisturbed run failed: {calm}")
        if not any(row["advantage"] for row in records.read_rows(folder / "rollouts.jsonl")):
            sys.exit(
                "the undisturbed run learns nothing: its numbers would be equal whatever happens"
            )
        list(program.left_behind())
    return folder


def round_of(program: Program, plan: Round, into: Path) -> dict[str, object]:
    """Play a round; return its row. The run's directory stays where something was wrong."""
    whole = reference(program, plan.shape, into)
    folder, begin = into / f"{program.name}-{plan.seed}-{plan.number}", time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    outcome = play(program, plan, folder)
    outcome.problems += [f"left behind: {what}" for what in program.left_behind()]
    outcome.problems += violations(folder, whole, program.steps, program.samples)
    if not outcome.problems:
        shutil.rmtree(folder)
    row = {"program": program.name, "seed": plan.seed, "round": plan.number, "shape": plan.shape}
    return row | dataclasses.asdict(outcome) | {"seconds": round(time.monotonic() - begin, 1)}


def campaign(program: Program, seed: int, numbers: range, seconds: float, into: Path) -> int:
    """Play rounds until `seconds` are over; return how many had something wrong."""
    into.mkdir(parents=True, exist_ok=True)
    begin, wrong = time.monotonic(), 0
    for number in numbers:
        if time.monotonic() - begin > seconds:
            break
        plan = drawn(seed, number, program.moments, list(program.kinds), program.longest_s)
        row = round_of(program, plan, into)
        wrong += bool(row["problems"])
        with (into / "rounds.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the round to begin with")
    parser.add_argument("--rounds", type=int, default=10**6, help="at most so many")
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--into", type=Path, default=Path("runs/soak"))
    parser.add_argument("--table", type=Path)
    args = parser.parse_args()
    if args.table:
        soak_table.write(args.table, args.into)
        return
    numbers = range(args.first, args.first + args.rounds)
    if args.stand_in:
        from tests.support.soak_stand_in import StandIn as Chosen
    else:
        from tests.benchmarks.soak_real import Real as Chosen
    into = args.into.resolve()
    with Chosen(into) as program:
        wrong = campaign(program, args.seed, numbers, args.hours * 3600, into)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
