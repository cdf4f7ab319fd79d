"""A reward worker with a remote geocoder: real Redis, real HTTP on loopback, the real gazetteer behind it."""

from __future__ import annotations

import asyncio
import time

import pytest
from geocoder_server import serving

from actors.cache import Cache, cache_key
from actors.cache_counters import CounterPublisher, counter_sums
from actors.redis_server import EmbeddedRedis, free_port, new_password
from actors.reward_worker import GeoEmbedWorker
from geoagent_rl.config import CacheConfig, GeocoderConfig, OpenCageConfig, RewardConfig
from geoagent_rl.telemetry import hit_shares
from geoagent_rl.types import InfraError

MUNICH, BAVARIA = ("Germany", "Bavaria", "Munich"), ("Germany", "Bavaria", "")
UNKNOWN = [("Germany", "Bavaria", f"Qzxdorf{i}") for i in range(5)]


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), free_port(), new_password())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OPENCAGE_API_KEY", "secret-key")


def ask(http, redis_url, *batches, provider="opencage", **settings):
    """What a fresh worker answers to each batch of addresses, one batch after another."""
    own = OpenCageConfig(url=http.url, rate_per_s=1000.0, daily_budget=0)
    geocoder = GeocoderConfig(provider=provider, opencage=own, timeout_s=1.0, longest_wait_s=1.0)

    async def work():
        worker = GeoEmbedWorker(RewardConfig(geocoder=geocoder, cache=CacheConfig(**settings)), redis_url)
        try:
            return [await worker.geocode(batch) for batch in batches], worker.cache.counters
        finally:
            await worker.cache.close()
            await worker.remotes["opencage"].close()

    return asyncio.run(work())


def test_requests_are_paid_for_once_over_addresses_workers_and_spellings(redis, key):
    with serving() as http:
        (first, again), _ = ask(http, redis.url, [MUNICH, *UNKNOWN], [("GERMANY", "bavaria", "munich"), BAVARIA])
        assert [m.level for m in first] == ["place"] + ["region"] * 5 and {m.provider for m in first} == {"opencage"}
        assert again[0] == first[0] and again[1].name == "Bavaria"
        assert sorted(http.asked()) == sorted(
            ["Munich, Bavaria, Germany", "Bavaria, Germany", *(f"Qzxdorf{i}, Bavaria, Germany" for i in range(5))]
        )
        (later,), counters = ask(http, redis.url, [MUNICH, *UNKNOWN])  # another worker: "no such place" is cached too
        assert later == first and len(http.requests) == 7
        assert counters["geocode_hits"] == 7 and counters["geocode_misses"] == 0


def test_no_such_place_expires_and_places_do_not(redis, key):
    nowhere = ("Germany", "", "Qzxstadt")

    with serving({"munich, saxony": ("Munich", 48.1, 11.5, "city", "Saxony", "Germany", "de")}) as http:
        ask(http, redis.url, [nowhere, ("Germany", "Saxony", "Munich")], negative_ttl_s=0.2)
        time.sleep(0.25)  # Redis' own clock decides
        ask(http, redis.url, [nowhere, ("Germany", "Saxony", "Munich")], negative_ttl_s=0.2)
        assert http.asked().count("Qzxstadt, Germany") == 2 and http.asked().count("Munich, Saxony, Germany") == 1


def test_failures_are_not_cached_and_stay_with_their_addresses(redis, key):
    def broken(path, query, key):
        return (500, {}, "") if "Augsburg" in query else None

    addresses = [("Germany", "Bavaria", "Augsburg"), BAVARIA]
    with serving(trouble=broken) as http:
        (found,), _ = ask(http, redis.url, addresses, provider=["opencage", "gazetteer"])
        assert isinstance(found[0], InfraError) and "500" in str(found[0]) and found[1].level == "region"
        http.trouble = None
        (found,), _ = ask(http, redis.url, addresses, provider=["opencage", "gazetteer"])
        assert (found[0].provider, found[0].level) == ("gazetteer", "place")  # the service knows no Augsburg


def test_entries_of_another_version_are_misses_and_are_overwritten(redis, key):
    old = ['{"lat": 1.0}', '["a"]', "7", '{"lat": "x", "lon": 2, "level": "place"}', "\x80"]

    async def spoil(version, texts):
        cache = Cache(redis.url)
        await cache.set_many({cache_key("geocode", version, k): v.encode("latin-1") for k, v in texts.items()})
        await cache.close()

    with serving() as http:
        version = f"opencage:{http.url.removeprefix('http://')}:en:1"
        keys = [f"munich, bavaria, germany {i}" for i in range(len(old))]
        asyncio.run(spoil(version, dict(zip(keys, old, strict=True))))
        addresses = [(f"Germany {i}", "Bavaria", "Munich") for i in range(len(old))]
        (found, again), _ = ask(http, redis.url, addresses, addresses)
        assert [m.name for m in found] == ["Munich"] * len(old) and again == found
        assert len(http.requests) == len(old)


def test_hit_shares_are_summed_over_workers(redis, key):
    async def publish(counts):
        cache = Cache(redis.url)
        cache.counters.update(counts)
        publisher = CounterPublisher(cache, "shares")
        publisher.soon()
        publisher.soon()
        await publisher._task
        cache.counters["geocode_hits"] += 1
        publisher.soon()
        await publisher._task
        found = await counter_sums(cache, ["shares", "nobody"])
        await cache.close()
        return found

    asyncio.run(publish({"geocode_hits": 2, "geocode_misses": 1}))
    found = asyncio.run(publish({"geocode_hits": 3, "similarity_misses": 3}))
    assert found == {"geocode_hits": 7, "geocode_misses": 1, "similarity_misses": 3}
    shares = {"cache_hit_share_geocode": 7 / 8, "cache_hit_share_similarity": 0.0, "cache_hit_share": 7 / 11}
    assert hit_shares(found) == pytest.approx(shares)
