"""The Serve deployment that geocodes addresses and compares place names, on CPUs only, through the
Redis cache.

The gazetteer alone answers whole addresses, which are cached as such. In a chain with remote
providers each *request* is cached instead, so that the region and country of unknown places are
paid for once. How names are compared is decided in geoagent_rl/rewards/names.py. Lists in, lists
out."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import geoagent_rl.geo
from actors.cache import Cache, cached_batch, failures_in_place
from actors.cache_counters import CounterPublisher, replica_application
from actors.gpu_share import hide_others
from actors.processor import set_reproducible_products
from actors.shared_rate_limit import SharedRateLimiter
from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.geo.chain import FINENESS, Chain
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.gazetteer_file import database_path
from geoagent_rl.geo.match import Match
from geoagent_rl.geo.providers import provider_names
from geoagent_rl.geo.remote import query_text, remotes
from geoagent_rl.rewards import encoder, names
from geoagent_rl.rewards.services import Address, LevelPair, Similarity
from geoagent_rl.types import InfraError

T = TypeVar("T")
SEPARATOR = "\x1f"  # between the fields of a cache key


class GeoEmbedWorker:
    """One replica: a gazetteer, an encoder, one thread that uses them, remote geocoders, one
    connection to the cache.

    The single thread and reward.geocoder.in_flight are the concurrency limits: Serve's own limit is
    set so high that it never holds requests back. API keys are read from this process's
    environment. Raises UserError for bad settings."""

    def __init__(self, config: RewardConfig, cache_url: str):
        hide_others(0)
        self.names_first = config.semantic.names_first
        self.negative_ttl_s = config.cache.negative_ttl_s
        self.cache = Cache(cache_url, config.cache.timeout_s)
        self.publisher = CounterPublisher(self.cache, replica_application())
        self.remotes = remotes(
            config.geocoder,
            os.environ,
            SharedRateLimiter(self.cache, config.geocoder.share_without_redis),
        )
        self.gazetteer = Gazetteer.open()
        set_reproducible_products()
        self.encoder = encoder.load(config.encoder.model)
        self.geo_version = f"gazetteer:{database_path().stem}:{_code_digest()}:any"
        self.similarity_version = (
            f"{self.encoder.version}:{self.geo_version if self.names_first else 'encoder-only'}"
        )
        self.chain = Chain(provider_names(config.geocoder.provider), self.gazetteer, self._ask)
        self.thread = ThreadPoolExecutor(1, "geo-embed")

    async def geocode(self, addresses: Sequence[Address]) -> list[Match | None | InfraError]:
        """Return a Match or None (no such place) per address (country, region, place)."""
        asked = [(tidy(country), tidy(region), tidy(place)) for country, region, place in addresses]
        if self.remotes:
            return await self.chain.geocode(asked)

        def find(positions: list[int]) -> list[dict[str, Any] | None]:
            found = (self.gazetteer.geocode(*asked[i]) for i in positions)
            return [None if match is None else dataclasses.asdict(match) for match in found]

        keys = [SEPARATOR.join(address) for address in asked]
        return await self._cached(
            "geocode", self.geo_version, keys, self._threaded(find), read_match
        )

    async def _ask(
        self, provider: str, _level: str, addresses: list[Address]
    ) -> list[Match | None | InfraError]:
        """One provider of the chain. Services do not tell cases apart, so neither do the cache's
        keys.
        """
        if provider == "gazetteer":
            return await self._in_thread(
                lambda: [self.gazetteer.geocode(*address) for address in addresses]
            )
        remote, queries = self.remotes[provider], [query_text(address) for address in addresses]

        async def find(positions: list[int]) -> list[dict[str, Any] | None | InfraError]:
            found = await asyncio.gather(
                *(remote.find(queries[i]) for i in positions), return_exceptions=True
            )
            return [
                dataclasses.asdict(answer) if isinstance(answer, Match) else answer
                for answer in failures_in_place(found)
            ]

        keys = [unicodedata.normalize("NFKC", query).casefold() for query in queries]
        return await self._cached("geocode", remote.version, keys, find, read_match)

    async def similarities(self, pairs: Sequence[LevelPair]) -> list[Similarity | InfraError]:
        """Return a Similarity per pair; an InfraError in the place of one that failed."""
        asked = [
            dataclasses.replace(p, a=tidy(p.a), b=tidy(p.b), within=tuple(map(tidy, p.within)))
            for p in pairs
        ]
        keys = [
            SEPARATOR.join(
                (p.level, p.a, p.b, *((*p.within, *p.below) if self.names_first else ()))
            )
            for p in asked
        ]

        def compare(positions: list[int]) -> list[list[Any]]:
            some = [asked[i] for i in positions]
            found = names.similarities(self.gazetteer, self.encoder, some, self.names_first)
            return [[similarity.value, similarity.by] for similarity in found]

        version = self.similarity_version
        return await self._cached(
            "similarity", version, keys, self._threaded(compare), read_similarity
        )

    async def same_place(self, pairs: Sequence[LevelPair]) -> list[bool]:
        """Say whether both names mean one place, by the gazetteer alone. Quicker than a look-up in
        the cache, so it is not cached."""
        return await self._in_thread(lambda: names.same_place(self.gazetteer, pairs))

    async def stats(self) -> dict[str, int]:
        """Return cache counters of this replica, see actors.cache.Cache."""
        return dict(self.cache.counters)

    async def _cached(
        self,
        kind: str,
        version: str,
        keys: list[str],
        work: Callable[[list[int]], Awaitable[list[Any]]],
        read: Callable[[Any], Any],
    ) -> list[Any]:
        found = await cached_batch(
            self.cache, kind, version, keys, work, negative_ttl_s=self.negative_ttl_s, read=read
        )
        self.publisher.soon()
        return found

    def _threaded(
        self, work: Callable[[list[int]], list[Any]]
    ) -> Callable[[list[int]], Awaitable[list[Any]]]:
        return lambda positions: self._in_thread(lambda: work(positions))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)


def tidy(text: str) -> str:
    """Return the form that is both asked and cached: NFC, single spaces. Case and accents stay:
    encoders see them.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_match(row: dict[str, Any]) -> Match:
    """Read what the cache holds. Raises ValueError or TypeError for what is no Match."""
    match = Match(**row)
    if match.level not in FINENESS or not (abs(match.lat) <= 90 and abs(match.lon) <= 180):
        raise ValueError(f"no match: {row}")
    return match


def read_similarity(row: list[Any]) -> Similarity:
    """Read what the cache holds. Raises ValueError or TypeError for what is no Similarity."""
    value, by = row
    if not 0.0 <= value <= 1.0 or by not in ("gazetteer", "encoder"):
        raise ValueError(f"no similarity: {row}")
    return Similarity(value, by)


def _code_digest() -> str:
    """Return a hash of the geocoder's source: a cache that outlives a change of the rules must not
    answer by the old ones."""
    files = sorted(Path(geoagent_rl.geo.__path__[0]).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
