"""The services that rewards ask, as protocols and records. Implementations live in actors/; tests
use fakes.

Every method takes a list and answers a list of the same length and order. A failure of a machine or
a service raises InfraError and never turns into an answer. May know nothing of Ray, Redis or any
engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from geoagent_rl.geo.match import Match

Level = Literal["country", "region", "place"]
LEVELS: tuple[Level, Level, Level] = ("country", "region", "place")
Address = tuple[str, str, str]  # country, region, place; unknown levels are ""


@dataclass(frozen=True, slots=True)
class LevelPair:
    """Two names of the same level. `within` are the coarser names under which both are read,
    coarsest first. below: of two countries, the region and place that lie in `b`.
    """

    level: Level
    a: str
    b: str
    within: tuple[str, ...] = ()
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Similarity:
    """Similarity of a LevelPair: `value` in [0, 1]; `by` says who decided it ("gazetteer": the same
    place).
    """

    value: float
    by: Literal["gazetteer", "encoder"]


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """One question for the consistency agent: what does this reasoning conclude?

    `earlier` are the policy's own conclusions of the coarser stages, coarsest first. `reasoning` is
    untrusted text."""

    stage: Level
    earlier: tuple[str, ...]
    reasoning: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The agent's conclusion ("" or "unknown" when the reasoning supports none), the seconds it
    took, and the name of the model that gave it.

    logprob: mean log-probability of the answer's tokens, nats; None where it was not asked for."""

    conclusion: str
    seconds: float
    by: str = ""
    logprob: float | None = None


class Geocoder(Protocol):
    """What knows where addresses lie."""

    async def geocode(self, addresses: Sequence[Address]) -> list[Match | None]:
        """Return a Match per address; None: no such place (an answer, not a failure)."""
        ...


class Semantic(Protocol):
    """What compares names."""

    async def similarities(self, pairs: Sequence[LevelPair]) -> list[Similarity]:
        """Return the similarity of each pair of names."""
        ...

    async def same_place(self, pairs: Sequence[LevelPair]) -> list[bool]:
        """Say of each pair whether both names mean one place, by the gazetteer alone."""
        ...


class Judge(Protocol):
    """What reads the conclusion in a reasoning."""

    async def judge(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Return a verdict per item."""
        ...


class JudgeAgent(Judge, Protocol):
    """A judge in this process."""

    async def verdict(self, item: JudgeItem) -> Verdict:
        """Return the verdict on one item. Raises InfraError."""
        ...

    async def check_health(self) -> None:
        """Raise where only another replica helps."""

    def stop(self) -> None:
        """End its processes. Idempotent."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a Scorer needs. A service may be None when no reward part with a weight above 0 asks
    it.
    """

    geocoder: Geocoder | None
    semantic: Semantic | None
    judge: Judge | None
