"""Cache counters of all workers, kept in Redis, so that one look-up tells the hit share of the
whole cluster.

Each worker writes what it has counted in all, so that a write whose answer was lost can be repeated
without counting twice. That is one small command at most every half second, and only while it
works. May know nothing of rewards."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence

from ray import serve
from ray.serve.exceptions import RayServeException

from actors.cache import ONLY_HASHES, Cache
from geoagent_rl.metrics.table import CACHED

PUBLISH_S = 0.5
PREFIX = "geoagent:counters:"
KEPT_S = 7 * 24 * 3600

_SET = (
    ONLY_HASHES
    + """
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""
)
_ALL = (
    ONLY_HASHES
    + """
local out = {}
for _, key in ipairs(KEYS) do
  for _, part in ipairs(redis.call('HGETALL', key)) do out[#out + 1] = part end
end
return out
"""
)


class CounterPublisher:
    """Keeps what `cache` counts under `name`, in fields of its own; does nothing where the name is
    "".
    """

    def __init__(self, cache: Cache, name: str):
        self._cache, self._name, self._me = cache, name, uuid.uuid4().hex[:12]
        self._published: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """Count in the background, together with what is counted until then. What Redis does not
        take is sent later."""
        if self._name and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        await asyncio.sleep(PUBLISH_S)
        now = Counter(self._cache.counters)
        new = [part for what in now - self._published for part in (f"{self._me}:{what}", now[what])]
        if (
            new
            and await self._cache.script(_SET, [PREFIX + self._name], [KEPT_S, *new]) is not None
        ):
            self._published = now


async def counter_sums(cache: Cache, names: Sequence[str]) -> Counter[str] | None:
    """Return the counters of every worker that publishes under one of `names`; None when Redis
    cannot be asked.
    """
    found = await cache.script(_ALL, [PREFIX + name for name in names], [])
    if found is None:
        return None
    sums: Counter[str] = Counter()
    for name, value in zip(found[::2], found[1::2], strict=True):
        sums[name.decode().partition(":")[2]] += int(value)
    return sums


def replica_application() -> str:
    """Return the Serve application that this process is a replica of; "" elsewhere."""
    try:
        return serve.get_replica_context().app_name
    except RayServeException:
        return ""


def cascade_shares(counters: Mapping[str, int]) -> dict[str, float]:
    """Return what a cascade of judges has counted (rewards/cascade.py), as shares; only those that
    have something to be a share of.
    """
    shares = {
        "judge_raised_share": ("cascade_raised", "cascade_verdicts"),
        "judge_agreement": ("cascade_agreed", "cascade_sampled"),
    }
    return {
        name: counters.get(part, 0) / counters[whole]
        for name, (part, whole) in shares.items()
        if counters.get(whole)
    }


def hit_shares(counters: Mapping[str, int]) -> dict[str, float]:
    """Return cache_hit_share, over all and per kind, from <kind>_hits and <kind>_misses; only of
    kinds that were asked."""
    asked = {k: (counters.get(f"{k}_hits", 0), counters.get(f"{k}_misses", 0)) for k in CACHED}
    asked = {k: (hits, hits + misses) for k, (hits, misses) in asked.items() if hits + misses}
    out = {f"cache_hit_share_{k}": hits / n for k, (hits, n) in asked.items()}
    if asked:
        out["cache_hit_share"] = sum(hits for hits, _ in asked.values()) / sum(
            n for _, n in asked.values()
        )
    return out
