"""A Redis that is full, or holds what other versions and other programs left there: misses, and
nothing worse.
"""

from __future__ import annotations

import asyncio

import pytest

import actors.cache
from actors.cache import Cache, cache_key, cached_batch
from actors.cache_counters import CounterPublisher, counter_sums
from actors.shared_rate_limit import SharedRateLimiter
from geoagent_rl.geo.rate_limit import Limit
from geoagent_rl.types import InfraError


def run(work, url):
    async def main():
        cache = Cache(url)
        try:
            await work(cache)
        finally:
            await cache.close()

    asyncio.run(main())


async def ask(cache, keys, asked):
    async def compute(positions):
        asked.extend(keys[i] for i in positions)
        return [keys[i].upper() for i in positions]

    return await cached_batch(cache, "test", "v1", keys, compute)


def test_a_full_server_still_answers_and_takes_new_entries_again_when_there_is_room(server):
    async def work(cache):
        asked = []
        await ask(cache, ["old"], asked)

        await cache._client.config_set("maxmemory-policy", "noeviction")
        await cache._client.config_set("maxmemory", "1")  # byte
        for _ in range(2):
            assert await ask(cache, ["old", "new"], asked) == ["OLD", "NEW"]
        assert asked == [
            "old",
            "new",
            "new",
        ]  # what was there is found; what was not is worked out each time
        assert (
            cache.counters["full"] >= 2
            and cache.counters["errors"] == cache.counters["skipped"] == 0
        )
        await cache._client.config_set("maxmemory", "256mb")
        for _ in range(2):
            assert await ask(cache, ["old", "new"], asked) == ["OLD", "NEW"]
        assert asked == ["old", "new", "new", "new"]

    run(work, server.url)


def test_entries_that_cannot_be_read_are_misses_and_are_overwritten(server):
    async def work(cache):
        asked, keys = [], ["a", "b", "c"]

        def read(row):
            if row["version"] != 2:
                raise ValueError("old")
            return row["name"]

        async def compute(positions):
            asked.extend(positions)
            return [{"version": 2, "name": keys[i].upper()} for i in positions]

        old = [b'{"version": 1, "name": "x"}', b'["x"]', b'{"name": "x"}']
        await cache.set_many(
            {cache_key("test", "v1", key): text for key, text in zip(keys, old, strict=True)}
        )
        for _ in range(2):
            assert await cached_batch(cache, "test", "v1", keys, compute, read=read) == [
                "A",
                "B",
                "C",
            ]
        assert asked == [0, 1, 2]

    run(work, server.url)


def test_a_key_of_a_foreign_type_costs_a_miss(server, monkeypatch):
    monkeypatch.setattr(actors.cache, "OPEN_S", 0.0)

    async def work(cache):
        asked = []
        await cache._client.lpush(cache_key("test", "v1", "a"), "not ours")
        for _ in range(2):
            assert await ask(cache, ["a"], asked) == ["A"]
        assert asked == ["a"] and cache.counters["errors"] == 1

    run(work, server.url)


def test_hashes_replace_what_another_program_left_under_their_names(server):
    async def work(cache):
        turns, limit = SharedRateLimiter(cache, 0.1), Limit(1000.0, 3, 0.1)
        await cache._client.set("geoagent:turns:k", "not ours")
        await cache._client.set("geoagent:counters:app", "not ours")
        assert [await turns.take(["k"], limit) for _ in range(3)] == [0, 0, 0]
        with pytest.raises(
            InfraError, match="budget"
        ):  # counted in Redis, not by this worker alone
            await turns.take(["k"], limit)
        cache.counters["geocode_hits"] = 5
        publisher = CounterPublisher(cache, "app")
        publisher.soon()
        await publisher._task
        assert (
            await counter_sums(cache, ["app"]) == {"geocode_hits": 5}
            and cache.counters["errors"] == 0
        )

    run(work, server.url)
