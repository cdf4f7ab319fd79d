"""Models of the hub, once on every node that may load them, before engines, learner and judge
start: their starts have time limits, a download of tens of gigabytes has none.

May know Ray and where models are named in a configuration."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.storage import BUILT_IN
from geoagent_rl.config import Config
from geoagent_rl.policy.download import download
from geoagent_rl.terminal import progress
from geoagent_rl.types import InfraError, UserError

MIB = 2**20


def hub_models(config: Config, only_learner: bool = False) -> dict[str, bool]:
    """Return {hub name: whether only nodes with GPUs load it} of what a run needs.

    only_learner: of a run without engines and rewards."""
    gpus = config.learner.gpus_per_rank or config.rollout.gpus_per_engine
    named = [(config.policy.model, gpus > 0)]
    if not only_learner:
        named.append((config.judge.model, config.judge.gpus_per_replica > 0))
        named.append((config.reward.encoder.model, False))
    return {
        name: on_gpus
        for name, on_gpus in named
        if name.count("/") == 1 and name not in BUILT_IN and not Path(name).exists()
    }


async def prefetch(models: dict[str, bool]) -> None:
    """Download hub models to the nodes that there are; nothing is done where HF_HUB_OFFLINE is set.

    Raises UserError for what the hub does not give, InfraError for a node that is lost meanwhile.
    """
    if not models or os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return
    nodes = [node for node in ray.nodes() if node["Alive"]]
    state = dict.fromkeys(((m, n["NodeID"]) for m in models for n in nodes), (0, 1))
    with progress(f"downloading {', '.join(models)} (MiB on all nodes)") as advance:

        async def follow(model: str, node: str) -> None:
            where = NodeAffinitySchedulingStrategy(node, soft=False)
            options = {"num_cpus": 0, "num_returns": "streaming", "scheduling_strategy": where}
            told: Any = ray.remote(_download).options(**options).remote(model)
            async for ref in told:
                state[model, node] = await ref
                done, total = (sum(column) // MIB for column in zip(*state.values(), strict=True))
                advance(done, max(total, 1))

        wanted = [
            follow(model, node["NodeID"])
            for model, on_gpus in models.items()
            for node in nodes
            if node["Resources"].get("GPU") or not on_gpus
        ]
        try:
            await asyncio.gather(*wanted)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise InfraError(f"a node was lost while models were downloaded: {error}") from error


def _download(model: str) -> Iterator[tuple[int, int]]:
    yield from download(model)
