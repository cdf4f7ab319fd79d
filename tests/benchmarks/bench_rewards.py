"""Scores per second through the whole reward path: Scorer -> Serve -> Redis -> gazetteer and
encoder, cold and warm.

    python -m tests.benchmarks.bench_rewards [--samples 512] [--judge tiny]

Without --judge the consistency agent answers at once, so that the path itself is measured. Prints
one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import ray

from actors.cache import Cache, cache_key, cached_batch
from actors.reward_worker import GeoEmbedWorker
from actors.serving import start_services
from geoagent_rl.config import Config
from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.types import Prompt, Truth
from tests.support.reward_fakes import completion, rollout
from tests.support.reward_services import judge_application


def local_ray() -> None:
    ray.init(
        address="local",
        num_cpus=16,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def samples(n: int) -> list[tuple[Prompt, object]]:
    """Groups of 8: one true place, 8 different answers near and far."""
    gazetteer = Gazetteer.open()
    towns = [p for p in gazetteer.places(min_population=20_000) if p.admin1][
        :: max(1, 20_000 // n)
    ][:n]
    found = []
    for i in range(n):
        t, guess = towns[i // 8 * 8 % len(towns)], towns[i % len(towns)]
        truth = Truth(t.country, t.admin1, t.name, t.lat, t.lon)
        levels = (guess.country, guess.admin1, guess.name)
        found.append(
            (Prompt(f"u{i // 8}", "/none.jpg", truth), rollout(completion(levels, levels), i % 8))
        )
    return found


async def timed_round(scorer: Scorer, work: list) -> dict[str, float]:
    async def one(prompt, sample):
        start = time.perf_counter()
        scored = await scorer.score(prompt, sample)
        return scored.total, time.perf_counter() - start

    start = time.perf_counter()
    found = await asyncio.gather(*(one(*item) for item in work))
    took = time.perf_counter() - start
    latencies = sorted(seconds for _, seconds in found)
    return {
        "scores_per_s": round(len(work) / took, 1),
        "seconds": round(took, 3),
        "p50_ms": round(1000 * statistics.median(latencies), 1),
        "p95_ms": round(1000 * latencies[int(0.95 * len(latencies))], 1),
        "unscorable": sum(total is None for total, _ in found),
        "mean_total": round(statistics.mean(total for total, _ in found if total is not None), 6),
    }


async def one_by_one(scorer: Scorer, work: list) -> float:
    start = time.perf_counter()
    for item in work:
        await scorer.score(*item)
    return round(1000 * (time.perf_counter() - start) / len(work), 2)


async def cache_path(url: str, n: int = 6400, batch: int = 64) -> dict[str, float]:
    """Per CPU second of this process, as one worker has one: other work on the machine does not
    count.
    """
    cache, keys = Cache(url), [f"germany;bayern;place {i}" for i in range(n)]
    rates = {}
    worker, towns = (
        GeoEmbedWorker(RewardConfig(), url),
        [("Germany", "Bavaria", f"Weiler{i}") for i in range(n)],
    )

    async def compute(positions):
        return [{"lat": 48.1, "lon": 11.5, "level": "place", "name": "Munich"} for _ in positions]

    async def rate(name: str, work: Callable[[int], Awaitable]) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        for i in range(0, n, batch):
            await work(i)
        rates[f"{name}_per_s"] = round(n / (time.perf_counter() - start))
        rates[f"{name}_per_cpu_s"] = round(n / (time.process_time() - cpu))

    for label in ("cold", "warm"):
        await rate(
            f"{label}_lookups",
            lambda i: cached_batch(cache, "bench", "v", keys[i : i + batch], compute),
        )
        await rate(f"{label}_worker_geocodes", lambda i: worker.geocode(towns[i : i + batch]))
    await rate(
        "mget_keys",
        lambda i: cache.get_many([cache_key("bench", "v", key) for key in keys[i : i + batch]]),
    )
    for one in (cache, worker.cache):
        await one.close()
    return rates


async def main(options: argparse.Namespace) -> None:
    config, work = Config(), samples(options.samples)
    if options.judge:
        config.judge.model = options.judge
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        running = await start_services(
            config, "bench", folder, None if options.judge else judge_application()
        )
        report = {
            "samples": len(work),
            "judge": options.judge or "instant",
            "start_s": time.perf_counter() - start,
        }
        try:
            scorer = Scorer(running.services, config.reward)
            await scorer.score(*work[0])  # handles and connections
            report["cold"] = await timed_round(scorer, work)
            report["warm"] = await timed_round(scorer, work)
            report["group_of_8"] = await timed_round(scorer, work[:8])
            report["one_by_one_warm_ms"] = await one_by_one(scorer, work[:64])
            report["cache"] = await cache_path(running.cache_url)
            report["replica"] = dict(await running.services.geocoder.handle.stats.remote())
        finally:
            start = time.perf_counter()
            await running.stop()
            report["stop_s"] = time.perf_counter() - start
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument(
        "--judge", default="", help="a judge.model, e.g. tiny; default: one that answers at once"
    )
    arguments = parser.parse_args()
    local_ray()
    asyncio.run(main(arguments))
    ray.shutdown()
