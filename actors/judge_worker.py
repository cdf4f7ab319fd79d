"""The Serve deployment of the judge: an engine, an endpoint or a cascade of both. Verdicts go
through the Redis cache, so each is worked out once.

May know nothing of prompts, engines or HTTP: those are consistency_agent.py's and
rewards/judge_endpoint.py's."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.cache import Cache, cached_batch, failures_in_place
from actors.cache_counters import CounterPublisher, replica_application
from actors.gpu_share import hide_others
from actors.shared_rate_limit import SharedRateLimiter
from geoagent_rl.config.reward import JudgeConfig
from geoagent_rl.geo.rate_limit import RateLimiter
from geoagent_rl.rewards.cascade import Cascade
from geoagent_rl.rewards.consistency_prompt import FORM, messages
from geoagent_rl.rewards.judge_endpoint import EndpointJudge, endpoint_version
from geoagent_rl.rewards.judge_models import judge_checkpoint
from geoagent_rl.rewards.services import JudgeAgent, JudgeItem, Verdict
from geoagent_rl.types import InfraError


class JudgeWorker:
    """One replica: an engine or the endpoint's connections, and one connection to the cache. API
    keys are read from this process's environment.
    """

    def __init__(self, judge: JudgeConfig, cache_url: str, cache_timeout_s: float):
        self.cache = Cache(cache_url, cache_timeout_s)
        self.publisher = CounterPublisher(self.cache, replica_application())
        limiter = SharedRateLimiter(self.cache, judge.endpoint.share_without_redis)
        self.agent = start_judge(judge, limiter, self.cache.counters)
        self.version = verdict_version(judge)

    async def judge(self, items: Sequence[JudgeItem]) -> list[Verdict | InfraError]:
        """Return one verdict per item; an item that the engine failed on has an InfraError in its
        place."""
        items = list(items)

        async def compute(positions: list[int]) -> list[list[Any] | InfraError]:
            found = await asyncio.gather(
                *(self.agent.verdict(items[i]) for i in positions), return_exceptions=True
            )
            return [
                list(dataclasses.astuple(answer)) if isinstance(answer, Verdict) else answer
                for answer in failures_in_place(found)
            ]

        keys = [
            json.dumps([item.stage, item.earlier, item.reasoning], ensure_ascii=False)
            for item in items
        ]
        found = await cached_batch(
            self.cache, "judge", self.version, keys, compute, read=read_verdict
        )
        self.publisher.soon()
        return found

    async def stats(self) -> dict[str, int]:
        """Return cache counters of this replica, see actors.cache.Cache."""
        return dict(self.cache.counters)

    async def check_health(self) -> None:
        """Raise when the agent is dead or hangs: Serve then replaces this replica."""
        await self.agent.check_health()

    def __del__(self) -> None:
        if hasattr(self, "agent"):  # Serve calls this when a replica shuts down
            self.agent.stop()


def start_judge(
    judge: JudgeConfig, limiter: RateLimiter | None = None, counters: Counter[str] | None = None
) -> JudgeAgent:
    """Start the configured judge in this process. Raises UserError for bad settings.

    counters: of a cascade (rewards/cascade.py)."""
    endpoint = EndpointJudge(judge, os.environ, limiter) if judge.endpoint.url else None
    if endpoint and not judge.has_engine:
        hide_others(0)
        return endpoint
    from actors.consistency_agent import ConsistencyAgent  # the engine's libraries

    engine = ConsistencyAgent(judge)
    return Cascade(engine, endpoint, judge.cascade, counters) if endpoint else engine


def read_verdict(row: list[Any]) -> Verdict:
    """Read what the cache holds. Raises ValueError or TypeError for what is no Verdict."""
    conclusion, seconds, by, logprob = row
    if not isinstance(conclusion, str) or not isinstance(by, str):
        raise ValueError(f"no verdict: {row}")
    return Verdict(conclusion, float(seconds), by, None if logprob is None else float(logprob))


def verdict_version(judge: JudgeConfig) -> str:
    """Name all that a verdict depends on: the models and their weights' files, the prompt, the
    limits, and when a cascade asks which.
    """
    versions = [engine_version(judge)] if judge.has_engine else []
    versions += [endpoint_version(judge)] if judge.endpoint.url else []
    if judge.cascade.enabled:
        versions += [f"{judge.cascade.unsure_below:g}:{judge.cascade.sampled_share:g}"]
    return "+".join(versions)


def engine_version(judge: JudgeConfig) -> str:
    """Name the model, its weights' file, the prompt and the limits."""
    model, dtype = judge_checkpoint(judge.model, on_cpu=judge.gpus_per_replica == 0)
    directory = Path(model)
    files = sorted(directory.glob("*.safetensors")) if directory.is_dir() else []
    stamp = [(f.name, f.stat().st_size, _head_and_tail(f)) for f in files]
    prompt = [messages("{question}"), FORM, judge.max_tokens, judge.max_model_len]
    digest = hashlib.sha256(
        repr([model if not files else "", dtype, stamp, prompt]).encode()
    ).hexdigest()[:16]
    return f"{directory.name}:{digest}"


def _head_and_tail(file: Path, size: int = 1 << 16) -> str:
    """Return a quick fingerprint of a weights file; tensors' names and sizes are in its head."""
    with file.open("rb") as data:
        head = data.read(size)
        data.seek(max(0, file.stat().st_size - size))
        return hashlib.sha256(head + data.read(size)).hexdigest()
