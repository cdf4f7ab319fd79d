"""A reward worker with a remote geocoder: real Redis, real HTTP on loopback, the real gazetteer
behind it.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from actors.cache import Cache, cache_key
from actors.cache_counters import CounterPublisher, counter_sums, hit_shares
from actors.chunking import Chunker
from actors.reward_worker import GeoEmbedWorker
from actors.serving import RewardServices
from geoagent_rl.config.reward import (
    CacheConfig,
    GeocoderConfig,
    OpenCageConfig,
    RewardConfig,
    Weights,
)
from geoagent_rl.rewards import encoder
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import Services, Similarity
from geoagent_rl.types import InfraError
from tests.support.geocoder_server import serving
from tests.support.reward_fakes import PROMPT, completion, rollout

MUNICH, BAVARIA = ("Germany", "Bavaria", "Munich"), ("Germany", "Bavaria", "")
UNKNOWN = [("Germany", "Bavaria", f"Qzxdorf{i}") for i in range(5)]


@pytest.fixture
def key(monkeypatch):
    """A key in the environment; no encoder, which takes seconds to load and has no part in this."""
    monkeypatch.setenv("OPENCAGE_API_KEY", "secret-key")
    monkeypatch.setattr(encoder, "load", lambda model: encoder.Encoder("none", None))


def ask(http, redis_url, *batches, provider="opencage", **settings):
    """What a fresh worker answers to each batch of addresses, one batch after another."""
    own = OpenCageConfig(url=http.url, rate_per_s=1000.0, daily_budget=0)
    geocoder = GeocoderConfig(provider=provider, opencage=own, timeout_s=1.0, longest_wait_s=1.0)

    async def work():
        worker = GeoEmbedWorker(
            RewardConfig(geocoder=geocoder, cache=CacheConfig(**settings)), redis_url
        )
        try:
            return [await worker.geocode(batch) for batch in batches], worker.cache.counters
        finally:
            await worker.cache.close()
            await worker.remotes["opencage"].close()

    return asyncio.run(work())


def test_requests_are_paid_for_once_over_addresses_workers_and_spellings(redis, key):
    with serving() as http:
        (first, again), _ = ask(
            http, redis.url, [MUNICH, *UNKNOWN], [("GERMANY", "bavaria", "munich"), BAVARIA]
        )
        assert [m.level for m in first] == ["place"] + ["region"] * 5 and {
            m.provider for m in first
        } == {"opencage"}
        assert again[0] == first[0] and again[1].name == "Bavaria"
        assert sorted(http.asked()) == sorted(
            [
                "Munich, Bavaria, Germany",
                "Bavaria, Germany",
                *(f"Qzxdorf{i}, Bavaria, Germany" for i in range(5)),
            ]
        )
        (later,), counters = ask(
            http, redis.url, [MUNICH, *UNKNOWN]
        )  # another worker: "no such place" is cached too
        assert later == first and len(http.requests) == 7
        assert counters["geocode_hits"] == 7 and counters["geocode_misses"] == 0


def test_no_such_place_expires_and_places_do_not(redis, key):
    nowhere = ("Germany", "", "Qzxstadt")

    with serving(
        {"munich, saxony": ("Munich", 48.1, 11.5, "city", "Saxony", "Germany", "de")}
    ) as http:
        ask(http, redis.url, [nowhere, ("Germany", "Saxony", "Munich")], negative_ttl_s=0.2)
        time.sleep(0.25)  # Redis' own clock decides
        ask(http, redis.url, [nowhere, ("Germany", "Saxony", "Munich")], negative_ttl_s=0.2)
        assert (
            http.asked().count("Qzxstadt, Germany") == 2
            and http.asked().count("Munich, Saxony, Germany") == 1
        )


def test_failures_are_not_cached_and_stay_with_their_addresses(redis, key):
    def broken(path, query, key):
        return (500, {}, "") if "Augsburg" in query else None

    addresses = [("Germany", "Bavaria", "Augsburg"), BAVARIA]
    with serving(trouble=broken) as http:
        (found,), _ = ask(http, redis.url, addresses, provider=["opencage", "gazetteer"])
        assert (
            isinstance(found[0], InfraError)
            and "500" in str(found[0])
            and found[1].level == "region"
        )
        http.trouble = None
        (found,), _ = ask(http, redis.url, addresses, provider=["opencage", "gazetteer"])
        assert (found[0].provider, found[0].level) == (
            "gazetteer",
            "place",
        )  # the service knows no Augsburg


def test_entries_of_another_version_are_misses_and_are_overwritten(redis, key):
    old = ['{"lat": 1.0}', '["a"]', "7", '{"lat": "x", "lon": 2, "level": "place"}', "\x80"]

    async def spoil(version, texts):
        cache = Cache(redis.url)
        await cache.set_many(
            {cache_key("geocode", version, k): v.encode("latin-1") for k, v in texts.items()}
        )
        await cache.close()

    with serving() as http:
        version = f"opencage:{http.url.removeprefix('http://')}:en:1"
        keys = [f"munich, bavaria, germany {i}" for i in range(len(old))]
        asyncio.run(spoil(version, dict(zip(keys, old, strict=True))))
        addresses = [(f"Germany {i}", "Bavaria", "Munich") for i in range(len(old))]
        (found, again), _ = ask(http, redis.url, addresses, addresses)
        assert [m.name for m in found] == ["Munich"] * len(old) and again == found
        assert len(http.requests) == len(old)


def test_hit_shares_are_summed_over_workers_and_a_lost_answer_counts_nothing_twice(redis, key):
    async def publish(counts):
        cache = Cache(redis.url)
        cache.counters.update(counts)
        publisher = CounterPublisher(cache, "shares")
        publisher.soon()
        publisher.soon()
        await publisher._task
        cache.counters["geocode_hits"] += 1
        # as if Redis had taken what is published but its answer was lost
        publisher._published.clear()
        publisher.soon()
        await publisher._task
        found = await counter_sums(cache, ["shares", "nobody"])
        await cache.close()
        return found

    asyncio.run(publish({"geocode_hits": 2, "geocode_misses": 1}))
    found = asyncio.run(publish({"geocode_hits": 3, "similarity_misses": 3}))
    assert found == {"geocode_hits": 7, "geocode_misses": 1, "similarity_misses": 3}
    shares = {
        "cache_hit_share_geocode": 7 / 8,
        "cache_hit_share_similarity": 0.0,
        "cache_hit_share": 7 / 11,
    }
    assert hit_shares(found) == pytest.approx(shares)


class InProcess:
    """Geocoder of rewards/services.py over a worker in this process, as actors.serving has it over
    Serve.
    """

    def __init__(self, worker):
        self.chunker = Chunker(worker.geocode)

    async def geocode(self, addresses):
        return await self.chunker.ask(addresses)


def scores(http, redis_url, levels):
    """Of the spatial reward, through the Scorer with its retries."""
    own = OpenCageConfig(url=http.url, rate_per_s=1000.0, daily_budget=0)
    geocoder = GeocoderConfig(
        provider=["opencage", "gazetteer"], opencage=own, timeout_s=0.3, longest_wait_s=0.3
    )
    config = RewardConfig(
        geocoder=geocoder,
        weights=Weights(1.0, 0.0, 0.0, 0.0),
        required=("spatial",),
        deadline_s=0.6,
    )

    async def work():
        worker = GeoEmbedWorker(config, redis_url)
        scorer = Scorer(Services(InProcess(worker), None, None), config)
        try:
            return await asyncio.gather(
                *(scorer.score(PROMPT, rollout(completion(a))) for a in levels)
            )
        finally:
            await scorer.services.geocoder.chunker.close()
            await worker.cache.close()
            await worker.remotes["opencage"].close()

    return [(s.total, s.parts["spatial"]) for s in asyncio.run(work())]


TROUBLES = {
    "quota": lambda *_: (402, {}, "{}"),
    "rate": lambda *_: (429, {"Retry-After": "60"}, "{}"),
    "key": lambda *_: (401, {}, "{}"),
    "down": lambda *_: (503, {}, ""),
    "hangs": lambda *_: ("hang", {}, "{}"),
    "garbage": lambda *_: (200, {}, "{"),
    "foreign": lambda *_: (200, {}, "{}"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_service_in_trouble_leaves_samples_unscored_and_changes_no_number(key, trouble):
    """Not even with a gazetteer in the chain that would have known: its numbers are others."""
    levels = [MUNICH, ("Germany", "Bavaria", "Augsburg"), ("Qzxistan", "", "")]
    with serving() as http:
        expected = scores(http, "off", levels)
        assert [part.kind for _, part in expected] == ["score", "score", "data"]
        http.trouble = TROUBLES[trouble]
        during = scores(http, "off", levels)
        assert [(total, part.kind, part.score) for total, part in during] == [
            (None, "infra", None)
        ] * 3
        assert all(
            "opencage" in part.reason or "no answer within" in part.reason for _, part in during
        )
        http.trouble = None
        assert [total for total, _ in scores(http, "off", levels)] == [
            total for total, _ in expected
        ]


def test_truths_are_prewarmed_once_and_a_failure_does_no_harm():
    asked, compared = [], []

    class Service:
        async def similarities(self, pairs):
            compared.extend((pair.level, pair.a, pair.b) for pair in pairs)
            return [Similarity(1.0, "gazetteer")] * len(pairs)

        async def geocode(self, addresses):
            asked.extend(addresses)
            if addresses[0][2] == "busy":
                raise InfraError("quota")
            return [None] * len(addresses)

    services = RewardServices("test", Service(), None, "off", None)
    truths = [
        MUNICH,
        BAVARIA,
        MUNICH,
        ("", "", ""),
        ("Germany", "", "busy"),
        ("Germany", "Bavaria", "unknown"),
    ]
    failed = asyncio.run(services.prewarm(truths))
    assert failed == 1 and asked == [MUNICH, BAVARIA, ("Germany", "", "busy")]
    assert [pair[1] for pair in compared if pair[0] == "place"] == ["Munich", "busy"]
    assert len(compared) == 7 and all(a == b for _, a, b in compared)
