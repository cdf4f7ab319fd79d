"""The driver's end of a RolloutEngine that runs as a Ray actor: one life of it (see
geoagent_rl/recovery.py).

Every failure of the actor, its process or its node is an InfraError, and every wait has a limit.
May know Ray; nothing of vLLM."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayError, RayTaskError

from geoagent_rl.types import InfraError, PolicyVersion, Prompt, Rollout, Sampling

CHECK_S = 60.0  # for one short request; an engine that takes longer counts as hung
STOP_S = 20.0
# for a swap: waking, loading, the probe; it may have to wait for completions under way besides
SWAP_S = 400.0


def stored(picture: Any) -> Any:
    """Put a picture into Ray's object store; the learner's rank that shows it fetches it."""
    return ray.put(picture)


class RemoteRollout:
    """Startable of geoagent_rl/recovery.py."""

    def __init__(self, actor: Any, timeout_s: float) -> None:
        self.actor = actor
        self.timeout_s = timeout_s

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Rollout]:
        """Yield the completions of one prompt as they finish."""
        stream = self.actor.generate_lists.remote(prompt, sampling)
        what, left = f"prompt {prompt.uid}", sampling.n
        try:
            while left:
                finished = await self.answer(await self.answer(anext(stream), what), what)
                left -= len(finished)
                for rollout in finished:
                    yield rollout
        finally:
            if left:
                ray.cancel(stream)

    async def swap(self, version: PolicyVersion) -> float:
        """Load new weights; return the seconds it took.

        An adapter's files travel from Ray's object store to the engine's node, not through here."""
        bare = dataclasses.replace(version, files=None)
        work, what = (
            self.actor.swap.remote(bare, version.files),
            f"swap to version {version.number}",
        )
        seconds: float = await self.answer(work, what, SWAP_S + self.timeout_s)
        return seconds

    async def sleep(self) -> None:
        """Free the engine's GPU until the next swap."""
        await self.answer(self.actor.sleep.remote(), "sleep")

    async def check(self) -> None:
        """Raise InfraError when the engine is dead or does not answer."""
        await self.answer(self.actor.check.remote(), "health check", CHECK_S)

    async def end(self) -> None:
        """Let vLLM end its own processes where it still can, then the actor."""
        try:
            await self.answer(self.actor.stop.remote(), "stop", STOP_S)
        except InfraError:
            pass  # it is being killed anyway
        ray.kill(self.actor)

    async def answer(self, work: Any, what: str, timeout_s: float | None = None) -> Any:
        """Await an ObjectRef or a coroutine; raises what the actor raised."""
        seconds = timeout_s or self.timeout_s
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise InfraError(f"{what}: no answer from the rollout actor in {seconds:g} s") from None
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if not isinstance(cause, ObjectLostError):  # the learner that published it died
                raise cause from None
            raise InfraError(f"{what}: {' '.join(str(cause).split())[:300]}") from error
        except RayError as error:
            raise InfraError(
                f"{what}: the rollout actor is gone: {' '.join(str(error).split())[:300]}"
            ) from error
