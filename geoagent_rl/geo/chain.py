"""Several geocoders in order: the finest level first, and at each level the first provider that
knows the place.

An address is asked as a whole, then without its place, then as a country alone; `Match.level` and
`Match.provider` say what answered. The next provider is asked only after "no such place": a
provider that *failed* may have known it, and an answer that depends on who happened to be up would
change numbers silently, so a failure is the address's outcome. Results in another country than the
one named count as "no such place"; territories and areas that two states claim are in either. A
country whose name a service takes for a namesake abroad stands where the gazetteer has it. A
provider's confidence is never used: it is the size of the result's bounding box, and a right
country has the lowest. May know nothing of HTTP or caches."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence

from geoagent_rl.geo.absent import is_absent
from geoagent_rl.geo.gazetteer import MAX_CHARS, Gazetteer
from geoagent_rl.geo.match import Level, Match
from geoagent_rl.types import InfraError

FINEST_FIRST: tuple[Level, ...] = ("place", "region", "country")
FINENESS = {"place": 2, "region": 1, "country": 0}
Address = tuple[str, str, str]  # country, region, place
# (provider, level asked, addresses cut at that level) -> a Match with the provider's own level,
# None, or the failure
Ask = Callable[[str, str, list[Address]], Awaitable[list[Match | None | InfraError]]]


class Chain:
    """Stateless; `ask` reaches the providers, through a cache or not. The gazetteer tells which
    countries are meant.
    """

    def __init__(self, names: Sequence[str], gazetteer: Gazetteer, ask: Ask):
        self.names, self._gazetteer, self._ask = tuple(names), gazetteer, ask

    async def geocode(self, addresses: Sequence[Address]) -> list[Match | None | InfraError]:
        """Return for each address a Match, None (no such place) or the failure that left it
        unanswered.

        All addresses go through a level together, so that the providers are asked in as few calls
        as possible."""
        queries = [
            _Query((_asked(country), _asked(region), _asked(place)))
            for country, region, place in addresses
        ]
        for level in FINEST_FIRST:
            if level == "country":
                self._settle(queries, level)  # "China; Hong Kong" has said more than "China" would
            for provider in self.names:
                open_ = [query for query in queries if not query.done and query.names(level)]
                if open_:
                    found = await self._ask(provider, level, [query.cut(level) for query in open_])
                    for query, answer in zip(open_, found, strict=True):
                        self._take(query, level, answer)
            self._settle(queries, level)
        return [query.answer for query in queries]

    @staticmethod
    def _settle(queries: Sequence[_Query], level: str) -> None:
        """Take what was found on the way if it is no coarser than the level that nobody
        knows.
        """
        for query in queries:
            if (
                not query.done
                and query.coarser
                and FINENESS[query.coarser.level] >= FINENESS[level]
            ):
                query.done, query.answer = True, query.coarser

    def _take(self, query: _Query, level: Level, answer: Match | None | InfraError) -> None:
        if isinstance(answer, InfraError):
            query.done, query.answer = True, answer
            return
        if answer is None:
            return
        meant = self._gazetteer.filed_under(*query.levels)
        if meant and answer.country_code and answer.country_code not in meant:
            if level == "country":  # "Georgia", which a service takes for the state
                query.coarser = query.coarser or self._gazetteer.geocode(query.levels[0])
            return  # a namesake abroad
        if FINENESS[answer.level] >= FINENESS[level]:
            query.done, query.answer = True, _named(answer, level)
        elif query.coarser is None or FINENESS[answer.level] > FINENESS[query.coarser.level]:
            query.coarser = answer


@dataclasses.dataclass(slots=True)
class _Query:
    """An address on its way through the levels."""

    levels: Address
    done: bool = False
    answer: Match | None | InfraError = None
    coarser: Match | None = (
        None  # what a provider found instead of the level asked: "Bavaria" in the place's slot
    )

    def names(self, level: str) -> bool:
        return bool(self.levels[FINENESS[level]])

    def cut(self, level: str) -> Address:
        """Leave out the levels finer than `level`."""
        country, region, place = self.levels
        finest = FINENESS[level]
        return country, region if finest >= 1 else "", place if finest >= 2 else ""


def _asked(name: str) -> str:
    return "" if is_absent(name) else name[:MAX_CHARS]


def _named(match: Match, level: Level) -> Match:
    """Return the match with the level of the *address* that was matched; the gazetteer says that
    itself."""
    return match if match.provider == "gazetteer" else dataclasses.replace(match, level=level)
