"""Reward services on local services of fixed latency: geocoder 300 ms (HTTP), judge 800 ms; encoder
and Redis are real.

    python -m tests.benchmarks.bench_services serial    # 64 completions, against a serial client
    python -m tests.benchmarks.bench_services scale     # work done by 1 and by 8 workers
    python -m tests.benchmarks.bench_services grow      # 1 -> 8 -> 2 workers of a live service
    python -m tests.benchmarks.bench_services many      # 10,000 samples at once; memory
    python -m tests.benchmarks.bench_services prewarm   # the first pass, with and without

`grow` measures until every worker answers; `prewarm` compares a first pass whose truths were asked
before with one whose truths were not. The serial client does what the authors' code does for a
completion: one geocode, two embeddings for each pair of levels, three questions to the judge, each
when the one before is answered; without its random sleeps. Semantic similarity is the paper's
(encoder only). Each prints one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
import ray

from actors.cache_counters import hit_shares
from actors.redis_server import EmbeddedRedis, new_password
from actors.reward_worker import GeoEmbedWorker
from actors.serving import RewardServices, start_services
from cluster.scale import scale as change_replicas
from geoagent_rl.answers.parse import parse
from geoagent_rl.config import Config
from geoagent_rl.config.reward import GeocoderConfig, PhotonConfig, RewardConfig, SemanticConfig
from geoagent_rl.geo.providers.photon import read as photon
from geoagent_rl.geo.remote import query_text
from geoagent_rl.network import free_port
from geoagent_rl.rewards import consistency, encoder, semantic, spatial
from geoagent_rl.rewards import format as format_part
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import Similarity
from geoagent_rl.rewards.total import total
from tests.benchmarks.bench_rewards import local_ray, samples
from tests.support.reward_fakes import PROMPT, completion, rollout
from tests.support.reward_services import StandInAgent, judge_application
from tests.support.service_faults import GeocoderProcess

JUDGE_S = 0.8


def config_for(url: str, replicas: int = 1, in_flight: int = 64) -> Config:
    service = PhotonConfig(url=url, rate_per_s=1e6)
    geocoder = GeocoderConfig(
        provider="photon", photon=service, replicas=replicas, in_flight=in_flight
    )
    geocoder.longest_wait_s = 300.0
    return Config(
        reward=RewardConfig(geocoder=geocoder, semantic=SemanticConfig(names_first=False))
    )


def villages(n: int, name: str) -> list[tuple[str, str, str]]:
    return [("Germany", "Bavaria", f"Weiler{name}{i}") for i in range(n)]


def one_after_another(texts: list[str], config: RewardConfig, url: str) -> list[float]:
    """The totals; nothing is asked twice at once, collected or remembered."""
    model, agent, totals = encoder.load(config.encoder.model), StandInAgent(JUDGE_S), []
    for text in texts:
        parsed = parse(text)
        with urllib.request.urlopen(
            f"{url}/api?q={quote(query_text(parsed.levels))}&limit=1&lang=en"
        ) as answer:
            match = photon(json.load(answer)["features"][0])
        found = []
        for pair in semantic.pairs(parsed.levels, PROMPT.truth.levels):
            (a,), (b,) = model.encode([pair.a]), model.encode([pair.b])
            value = round(float(np.clip(np.dot(a, b), 0.0, 1.0)), encoder.DECIMALS)
            found.append(Similarity(value, "encoder"))
        targets = consistency.targets(parsed.stages, PROMPT.truth.levels, config.consistency)
        asked = consistency.questions(parsed.stages, targets, config.consistency)
        verdicts = [asyncio.run(agent.verdict(item)) for item in asked]
        parts = {
            "spatial": spatial.outcome(parsed.levels, match, PROMPT.truth, config.spatial),
            "semantic": semantic.outcome(
                parsed.levels, PROMPT.truth.levels, found, config.semantic
            ),
            "consistency": consistency.outcome(
                parsed, targets, verdicts, (None,) * 3, config.consistency
            ),
            "format": format_part.outcome(parsed, text, config.format),
        }
        totals.append(total(parts, config))
    return totals


async def timed(work) -> tuple[float, list]:
    start = time.perf_counter()
    found = await asyncio.gather(*work)
    return time.perf_counter() - start, found


async def serial(url: str, folder: str) -> dict:
    config, texts = (
        config_for(url),
        [completion(levels, levels) for levels in villages(64, "serial")],
    )
    services = await start_services(config, "serial", folder, judge_application(JUDGE_S))
    try:
        scorer = Scorer(services.services, config.reward)
        await scorer.score(
            PROMPT, rollout(completion(*villages(1, "first") * 2))
        )  # handles and connections
        cold_s, cold = await timed(scorer.score(PROMPT, rollout(text)) for text in texts)
        warm = [
            await timed(scorer.score(PROMPT, rollout(text)) for text in texts) for _ in range(5)
        ]
    finally:
        await services.stop()
    start = time.perf_counter()
    expected = await asyncio.to_thread(one_after_another, texts, config.reward, url)
    serial_s, warm_s = time.perf_counter() - start, sorted(seconds for seconds, _ in warm)[2]
    assert all(
        [s.total for s in found] == expected for found in (cold, *(found for _, found in warm))
    )
    seconds = {"serial_s": serial_s, "cold_s": cold_s, "warm_s": warm_s}
    return seconds | {
        "cold_times": serial_s / cold_s,
        "warm_times": serial_s / warm_s,
        "identical": True,
    }


async def scale(url: str, folder: str) -> dict:
    n, seconds = (
        1536,
        {},
    )  # some steps of work: with few calls, how the router happens to spread them decides
    for replicas in (1, 8):
        config = config_for(url, replicas, in_flight=4)
        services = await start_services(
            config, f"scale{replicas}", f"{folder}/{replicas}", judge_application()
        )
        try:
            geocoder = services.services.geocoder
            await asyncio.gather(
                *(geocoder.geocode([v]) for v in villages(64, f"first{replicas * 'x'}"))
            )
            took, found = await timed(geocoder.geocode([v]) for v in villages(n, "scale"))
            assert len(found) == n and all(match for (match,) in found)
            seconds[replicas] = took
        finally:
            await services.stop()
    return {"addresses": n, "in_flight": 4, "seconds": seconds, "times": seconds[1] / seconds[8]}


async def grow(url: str, folder: str) -> dict:
    """`geoagent-rl scale` while samples are scored, 20 a second; all of them must get their
    score.
    """
    services = await start_services(Config(), "grow", folder, judge_application())
    scorer, work, asked, over = (
        Scorer(services.services, Config().reward),
        samples(512),
        [],
        asyncio.Event(),
    )

    async def users() -> None:
        while not over.is_set():
            asked.append(asyncio.create_task(scorer.score(*work[len(asked) % len(work)])))
            await asyncio.sleep(0.05)

    try:
        await scorer.score(*work[0])
        using, seconds = asyncio.create_task(users()), {}
        for change, replicas in (("1 -> 8", 8), ("8 -> 2", 2)):
            found = await asyncio.to_thread(change_replicas, "grow", {"geocoder": replicas})
            seconds[change] = found["geocoder"]
        over.set()
        await using
        found = await asyncio.gather(*asked)
        return {
            "seconds": seconds,
            "samples": len(found),
            "unscorable": sum(s.total is None for s in found),
        }
    finally:
        await services.stop()


def peak_mb(process: psutil.Process) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


async def many(url: str, folder: str) -> dict:
    config, work = Config(), samples(10_000)
    services = await start_services(config, "many", folder, judge_application())
    try:
        scorer = Scorer(services.services, config.reward)
        await scorer.score(*work[0])
        before = peak_mb(psutil.Process())
        took, found = await timed(scorer.score(*sample) for sample in work)
        report = {
            "samples": len(found),
            "unscorable": sum(s.total is None for s in found),
            "seconds": took,
        }
        report |= {"scores_per_s": len(found) / took, "driver_before_mb": before}
        report |= {"driver_peak_mb": peak_mb(psutil.Process())}
        workers = [
            p
            for p in psutil.process_iter(["cmdline"])
            if "GeoEmbedWorker" in " ".join(p.info["cmdline"] or ())
        ]
        return report | {"worker_peak_mb": [peak_mb(p) for p in workers]}
    finally:
        await services.stop()


async def prewarm(url: str, folder: str) -> dict:
    """In this process, so that CPU seconds of the first pass can be told; similarity is the
    paper's.
    """
    report, config = {}, RewardConfig(semantic=SemanticConfig(names_first=False))
    for name in ("first", "cold", "warmed"):  # the first one pays for what is loaded on demand
        redis = EmbeddedRedis(f"{folder}/{name}", free_port(), new_password())
        worker, work = GeoEmbedWorker(config, redis.start()), samples(512)
        services = RewardServices("prewarm", worker, StandInAgent(), redis.url, None)
        if name == "warmed":
            await services.prewarm(prompt.truth.levels for prompt, _ in work)
        scorer, before, start = (
            Scorer(services.services, config),
            worker.cache.counters.copy(),
            time.process_time(),
        )
        await asyncio.gather(*(scorer.score(*sample) for sample in work))
        report[name] = {"cpu_s": time.process_time() - start} | hit_shares(
            worker.cache.counters - before
        )
        await worker.cache.close()
        redis.stop()
    return report


BENCHMARKS = {"serial": serial, "scale": scale, "grow": grow, "many": many, "prewarm": prewarm}


def main(what: str) -> None:
    if what != "prewarm":
        local_ray()
    geocoder = GeocoderProcess()
    geocoder.set_trouble("slow")
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(BENCHMARKS[what](geocoder.url, folder))
        print(
            json.dumps(
                {"benchmark": what, "cores": os.cpu_count(), "load": os.getloadavg()[0]} | found,
                indent=1,
            )
        )
    finally:
        geocoder.kill()
        ray.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=list(BENCHMARKS))
    main(parser.parse_args().what)
