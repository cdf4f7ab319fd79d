"""The Serve deployment that geocodes addresses and compares place names, on CPUs only, through the Redis cache.

How names are compared is decided in geoagent_rl/rewards/names.py. Lists in, lists out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import geoagent_rl.geo
from actors.cache import Cache, cached_batch
from geoagent_rl.config import RewardConfig
from geoagent_rl.geo.gazetteer import Gazetteer, Match
from geoagent_rl.geo.gazetteer_build import database_path
from geoagent_rl.rewards import encoder, names
from geoagent_rl.rewards.services import Address, LevelPair, Similarity
from geoagent_rl.types import InfraError, UserError

SEPARATOR = "\x1f"  # between the fields of a cache key


class GeoEmbedWorker:
    """One replica: a gazetteer, an encoder, one thread that uses them, and one connection to the cache.

    The single thread is the concurrency limit: Serve's own limit is set so high that it never holds requests back.
    """

    def __init__(self, config: RewardConfig, cache_url: str):
        if config.geocoder.provider != "gazetteer":
            raise UserError(f"reward.geocoder.provider must be gazetteer, not {config.geocoder.provider!r}")
        self.names_first = config.semantic.names_first
        self.cache = Cache(cache_url, config.cache.timeout_s)
        self.gazetteer = Gazetteer.open()
        self.encoder = encoder.load(config.encoder.model)
        self.geo_version = f"gazetteer:{database_path().stem}:{_code_digest()}:any"
        self.similarity_version = f"{self.encoder.version}:{self.geo_version if self.names_first else 'encoder-only'}"
        self.thread = ThreadPoolExecutor(1, "geo-embed")

    async def geocode(self, addresses: Sequence[Address]) -> list[Match | None | InfraError]:
        """A Match or None (no such place) per address (country, region, place)."""
        asked = [tuple(map(tidy, address)) for address in addresses]

        def find(positions: list[int]) -> list[dict[str, Any] | None]:
            found = [self.gazetteer.geocode(*asked[i]) for i in positions]
            return [match and dataclasses.asdict(match) for match in found]

        found = await self._cached("geocode", self.geo_version, [SEPARATOR.join(a) for a in asked], find)
        return [Match(**row) if isinstance(row, dict) else row for row in found]

    async def similarities(self, pairs: Sequence[LevelPair]) -> list[Similarity | InfraError]:
        asked = [dataclasses.replace(p, a=tidy(p.a), b=tidy(p.b), within=tuple(map(tidy, p.within))) for p in pairs]
        keys = [SEPARATOR.join((p.level, p.a, p.b, *(p.within if self.names_first else ()))) for p in asked]

        def compare(positions: list[int]) -> list[list[Any]]:
            some = [asked[i] for i in positions]
            found = names.similarities(self.gazetteer, self.encoder, some, self.names_first)
            return [[similarity.value, similarity.by] for similarity in found]

        found = await self._cached("similarity", self.similarity_version, keys, compare)
        return [row if isinstance(row, InfraError) else Similarity(*row) for row in found]

    async def same_place(self, pairs: Sequence[LevelPair]) -> list[bool]:
        """By the gazetteer alone; quicker than a look-up in the cache, so it is not cached."""
        return await self._in_thread(lambda: names.same_place(self.gazetteer, pairs))

    async def stats(self) -> dict[str, int]:
        """Cache counters of this replica, see actors.cache.Cache."""
        return dict(self.cache.counters)

    async def _cached(self, kind: str, version: str, keys: list[str], work: Callable[[list[int]], list]) -> list:
        async def compute(positions: list[int]) -> list:
            return await self._in_thread(lambda: work(positions))

        return await cached_batch(self.cache, kind, version, keys, compute)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)


def tidy(text: str) -> str:
    """The form that is both asked and cached: NFC, single spaces. Case and accents stay: encoders see them."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _code_digest() -> str:
    """Of the geocoder's source: a cache that outlives a change of the rules must not answer by the old ones."""
    files = sorted(Path(geoagent_rl.geo.__path__[0]).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
