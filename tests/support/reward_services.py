"""Real reward services that misbehave on demand, for fault tests and benchmarks: replicas, and a
judge without vLLM.

The classes travel to Ray's workers by value: those cannot import a test.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import time

import numpy as np
from ray import cloudpickle, serve

import actors.cache
from actors.cache import Cache
from actors.cache_counters import CounterPublisher, replica_application
from actors.consistency_agent import ConsistencyAgent
from actors.judge_worker import JudgeWorker
from actors.reward_worker import GeoEmbedWorker
from geoagent_rl.rewards.consistency_prompt import answer

cloudpickle.register_pickle_by_value(sys.modules[__name__])
SLOW_S = 0.3
LEASE_S = 1.0  # so long a replica that is killed blocks others


class StandInAgent(ConsistencyAgent):
    """The real agent but for its engine, which concludes the word before the first colon (see
    reward_fakes.py).
    """

    def __init__(self, latency_s=0.0, at_once=1024):
        self.name = "stand-in"
        self.latency_s, self.slots = latency_s, asyncio.Semaphore(at_once)
        self.trouble, self.asked = "", 0

    def prompt_ids(self, item):
        return item

    async def complete(self, item):
        self.asked += 1
        if self.trouble == "flapping" and self.asked % 2:
            raise ConnectionResetError("the engine is away")
        async with self.slots:
            await asyncio.sleep({"slow": SLOW_S, "stuck": 60.0}.get(self.trouble, self.latency_s))
        if self.trouble == "garbage":
            return '{"verdict": 3', "stop", None
        return answer(item.reasoning.split(":")[0]), "stop", None

    async def check_health(self):
        pass

    def stop(self):
        pass


class Controlled:
    """What a test may ask of a replica besides its work."""

    async def pid(self):
        return os.getpid()

    async def set_trouble(self, trouble):
        self.troubled.trouble = trouble

    async def asked(self):
        return self.troubled.asked


class StandInJudge(Controlled, JudgeWorker):
    """The real worker, with its cache and counters, round a StandInAgent."""

    def __init__(self, cache_url, timeout_s, latency_s=0.0, at_once=1024):
        actors.cache.LEASE_S = LEASE_S
        self.cache = Cache(cache_url, timeout_s)
        self.publisher = CounterPublisher(self.cache, replica_application())
        self.agent = self.troubled = StandInAgent(latency_s, at_once)
        self.version = "stand-in"


def judge_application(latency_s=0.0, at_once=1024, replicas=1):
    """A value for the `judge` argument of start_services."""
    deployment = serve.deployment(
        StandInJudge,
        num_replicas=replicas,
        max_ongoing_requests=1024,
        ray_actor_options={"num_cpus": 0.1},
        health_check_period_s=2.0,
        graceful_shutdown_timeout_s=2.0,
        graceful_shutdown_wait_loop_s=0.2,
    )
    return lambda config, cache_url: deployment.bind(
        cache_url, config.reward.cache.timeout_s, latency_s, at_once
    )


class TroubledEncoder:
    """An encoder that works slowly, every second time, or answers not-a-number."""

    def __init__(self, encode):
        self.encode, self.trouble, self.asked = encode, "", 0

    def __call__(self, texts):
        self.asked += 1
        if self.trouble == "flapping" and self.asked % 2:
            raise MemoryError("no room for the vectors")
        if self.trouble in ("slow", "stuck"):
            time.sleep(SLOW_S if self.trouble == "slow" else 60.0)
        vectors = self.encode(texts)
        return np.full_like(vectors, np.nan) if self.trouble == "garbage" else vectors


class TroubledWorker(Controlled, GeoEmbedWorker):
    """The real worker with a TroubledEncoder."""

    def __init__(self, config, cache_url):
        actors.cache.LEASE_S = LEASE_S
        super().__init__(config, cache_url)
        self.troubled = TroubledEncoder(self.encoder.encode)
        self.encoder = dataclasses.replace(self.encoder, encode=self.troubled)
