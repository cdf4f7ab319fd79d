"""What a round of the soak is: which run, and what strikes it when; all drawn from the seed.

The same seed and number give the same round, whatever rounds came before. Kinds of faults are dealt
like cards, so that every kind comes before one comes twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

TOGETHER = ""  # the moment of a fault that strikes at once after the one before it
SHARE_TOGETHER = 0.25
Undo = tuple[float, Callable[[], None]]  # what ends a fault, and after how many seconds


class NothingThereError(Exception):
    """The part that a fault is to strike does not run at this moment."""


@dataclass(frozen=True)
class Hit:
    """One fault: it strikes `after_s` seconds after the first line that matches `moment`, a regular
    expression, since the fault before it.
    """

    kind: str
    moment: str
    after_s: float = 0.0


@dataclass(frozen=True)
class Round:
    """One run of the shape named `shape`, and its faults in order."""

    seed: int
    number: int
    shape: str
    hits: tuple[Hit, ...]


def drawn(
    seed: int,
    number: int,
    moments: Mapping[str, Sequence[str]],
    kinds: Sequence[str],
    longest_s: float,
) -> Round:
    """Return round `number` of the campaign `seed`.

    moments: by shape of run, the lines that one says, in their order, the last of them only after a
    fault; kinds: of faults; longest_s: of the wait between a line and its fault, in seconds."""
    chance = random.Random(f"{seed}/{number}")
    shape = chance.choice(sorted(moments))
    count, last = chance.choice((1, 1, 2, 3)), len(moments[shape]) - 1
    places = sorted([chance.randrange(last), *(chance.randint(0, last) for _ in range(count - 1))])
    hits = []
    for i, place in enumerate(places):
        kind = chance.choice(sorted(kinds)) if i else dealt(seed, number, kinds)
        hits.append(Hit(kind, moments[shape][place], round(chance.uniform(0, longest_s), 3)))
        if chance.random() < SHARE_TOGETHER:
            hits.append(Hit(chance.choice(sorted(kinds)), TOGETHER))
    return Round(seed, number, shape, tuple(hits))


def dealt(seed: int, number: int, kinds: Sequence[str]) -> str:
    """Return the kind that round `number` begins with: every kind once in len(kinds) rounds."""
    deck = sorted(kinds)
    random.Random(f"{seed}/deck {number // len(deck)}").shuffle(deck)
    return deck[number % len(deck)]
