"""The weights in one rollout engine: a whole checkpoint, and a published adapter on it, either
merged into the checkpoint's own weights (rollout.swap=merged) or served beside them.

Nothing is believed: files are compared with the learner's digest, and after each change every
number in the workers with the files. May know vLLM's AsyncLLM and its workers' methods
(vllm_worker.py); nothing of prompts or completions."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

from actors.node_files import files_here
from actors.vllm_engine import within
from geoagent_rl.config import Config
from geoagent_rl.types import InfraError, PolicyVersion

SWAP_TIMEOUT_S = 120.0


class EngineWeights:
    """What an engine's workers hold. Every method but `merges` needs a started engine."""

    def __init__(self, config: Config, model: str) -> None:
        """model: the checkpoint that the engine starts with."""
        self.config = config
        self.base = model  # the checkpoint that adapters go on; "": none is whole
        self.merged = False  # whether the workers' own weights have an adapter in them
        self.adapter: Any = None  # vLLM's LoRARequest of an adapter that is served beside them
        self.loaded: list[Any] = []  # LoRARequests, oldest first
        self.numbers = itertools.count(1)
        self.engine: Any = None

    def replaces(self, version: PolicyVersion) -> bool:
        """Say whether taking `version` changes the weights that running completions use."""
        return version.kind == "checkpoint" or self.config.rollout.swap == "merged"

    async def begin(self, engine: Any) -> None:
        """Get ready for versions; `engine` has the checkpoint of the start."""
        self.engine = engine
        if self.config.rollout.swap == "merged":
            await self.keep_base()

    async def take(self, version: PolicyVersion) -> None:
        """Load `version` and check every number of it. Nothing may be under way where it `replaces`
        weights."""
        if version.kind == "checkpoint":
            await asyncio.to_thread(check_published, version, version.path)
            await self.take_checkpoint(version)
            return
        with files_here(version.files) as path:
            await asyncio.to_thread(check_published, version, str(path))
            await self.take_adapter(version.number, str(path))

    async def take_adapter(self, number: int, path: str) -> None:
        """Merge the adapter in `path` into the base, or load it beside those that are in use."""
        if self.config.rollout.swap == "merged":
            self.merged = True
            problems = await self.workers("merge", path, what=f"merging version {number}")
            await self.forget_prefixes()
        else:
            await within(SWAP_TIMEOUT_S, f"loading version {number}", self.load(number, path))
            problems = await self.workers(
                "adapter_problem",
                self.adapter.lora_int_id,
                path,
                what=f"comparing the engine's weights with version {number}",
            )
        refuse(problems, f"version {number}")

    async def take_checkpoint(self, version: PolicyVersion) -> None:
        """Reload all weights in place, unless they are there: the start under an adapter."""
        self.adapter = None  # what was on the old weights
        if version.number == 0 and version.path == self.base and not self.merged:
            return
        self.base = ""  # nothing whole, until it is
        await self.workers("take_weights", version.path, what=f"loading {version.path}")
        await self.forget_prefixes()
        # vLLM's reload clears the workers' caches but not the scheduler's: without these the next
        # repeated picture dies with "Encoder cache miss".
        await self.engine.reset_mm_cache()
        await self.engine.reset_encoder_cache()
        self.base, self.merged = version.path, False
        if self.config.rollout.swap == "merged":
            await self.keep_base()
        else:
            what = f"comparing the engine's weights with {version.path}"
            refuse(await self.workers("weights_problem", version.path, what=what), version.path)

    async def keep_base(self) -> None:
        """Let each worker keep its share of the base, which adapters are merged into, after it has
        proved that it holds it."""
        from geoagent_rl.policy.checkpoint import checkpoint_dir

        path = str(await asyncio.to_thread(checkpoint_dir, self.base))
        refuse(await self.workers("keep_base", path, what=f"keeping {path}"), path)

    async def load(self, version: int, path: str) -> None:
        """Load an adapter under a new name and id each time: vLLM would serve a known one from its
        cache. Not the version's number: a run that goes back to a checkpoint comes to the same
        number again. The oldest goes first: vLLM would look for one that it had no room for in
        `path`, which is gone by then."""
        from vllm.lora.request import LoRARequest

        while len(self.loaded) > self.config.max_staleness + 1:
            await self.engine.remove_lora(self.loaded.pop(0).lora_int_id)
        number = next(self.numbers)
        request = LoRARequest(f"policy-{version}-{number}", number, path)
        await self.engine.add_lora(request)
        self.adapter = request
        self.loaded.append(request)

    async def forget_prefixes(self) -> None:
        """Drop cached keys and values, which are the old weights'."""
        if not await self.engine.reset_prefix_cache():
            raise InfraError(
                "vLLM did not reset its prefix cache: a request is still in the engine"
            )

    async def workers(self, method: str, *args: Any, what: str) -> Any:
        """Call a method of every worker; return their answers."""
        return await within(SWAP_TIMEOUT_S, what, self.engine.collective_rpc(method, args=args))


def refuse(problems: list[str], version: str) -> None:
    """Raise InfraError for the first problem that a worker has found with its weights."""
    for problem in problems:
        if problem:
            raise InfraError(f"the engine does not hold the weights of {version}: {problem}")


def check_published(version: PolicyVersion, path: str) -> None:
    """Raise InfraError unless `path` holds what the learner published as `version`."""
    from geoagent_rl.policy.digest import read_weights, weights_digest

    if version.digest and weights_digest(read_weights(Path(path))) != version.digest:
        where = version.path or "the adapter that arrived"
        raise InfraError(
            f"{where} does not hold the weights that the learner published as version "
            f"{version.number}"
        )
