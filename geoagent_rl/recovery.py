"""What starts dead parts of a run again, a bounded number of times: one rollout engine, or the
learner.

An engine that died comes back with the newest weights while others take its prompts; prompts keep
their seeds. A learner that died comes back from its newest checkpoint and the steps since then are
done again, so that every prompt is trained once in what the run records. Written against the
driver's protocols; may know nothing of Ray, vLLM or DeepSpeed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from geoagent_rl.types import InfraError, PolicyVersion, Prompt, Rollout, Sampling, UserError

log = logging.getLogger(__name__)


WINDOW_S = 3600.0  # restarts are counted over this time: a long run meets a fault now and then


class Restarts:
    """At most `limit` restarts within WINDOW_S, whatever the length of the run."""

    def __init__(self, limit: int) -> None:
        self.limit, self.done = limit, 0
        self._times: deque[float] = deque()

    def take(self) -> bool:
        """Count one restart more; False where too many were within the window."""
        now = time.monotonic()
        while self._times and now - self._times[0] > WINDOW_S:
            self._times.popleft()
        if len(self._times) >= self.limit:
            return False
        self._times.append(now)
        self.done += 1
        return True

    def __str__(self) -> str:
        return f"{len(self._times)} of {self.limit}"


class LearnerLost(InfraError):
    """A rank of the learner died or hung: the state in its memory is gone."""


class Startable(Protocol):
    """One life of an engine."""

    def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Rollout]:
        """Yield the completions of one prompt as they finish."""
        ...

    async def swap(self, version: PolicyVersion) -> float:
        """Take new weights; return the seconds it took."""
        ...

    async def sleep(self) -> None:
        """Free its GPU until the next swap."""

    async def check(self) -> None:
        """Raise InfraError when the engine is dead or does not answer."""

    async def end(self) -> None:
        """End its processes, dead or alive."""


class RestartedEngine:
    """The driver's Engine over one life after another. Use it from one event loop."""

    def __init__(
        self,
        name: str,
        engine: Startable,
        start: Callable[[int], Awaitable[Startable]],
        max_restarts: int,
    ) -> None:
        """start(life) begins life number `life` (the given `engine` is 0) with the weights of the
        run's start.
        """
        self.name, self.engine, self.start = name, engine, start
        self.restarts = Restarts(max_restarts)
        self.under_way = 0  # completions asked for and not yet given
        self.version: PolicyVersion | None = (
            None  # the newest that was asked for; None: that of the start
        )
        self.lost: InfraError | None = None
        self._base: PolicyVersion | None = None  # the newest whole checkpoint: what adapters go on
        self._taken: PolicyVersion | None = None  # the newest that this life has taken
        self._recovery: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Say whether it can take work now."""
        return self.lost is None and self._recovery is None

    async def ready(self) -> None:
        """Wait until the engine can take work; raise InfraError when its restarts are used up."""
        while self._recovery is not None:
            await asyncio.wait([self._recovery])
        if self.lost is not None:
            raise self.lost

    async def answers(self) -> bool:
        """Say whether it does a short request now. One that does not is started again, in the
        background."""
        try:
            await self.engine.check()
        except InfraError as problem:
            if self.up:
                self._begin_recovery(problem, must_restart=True)
        return self.up

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Rollout]:
        """Yield the completions of one prompt as they finish."""
        left = sampling.n
        self.under_way += left
        try:
            async for rollout in self.engine.generate(prompt, sampling):
                left, self.under_way = left - 1, self.under_way - 1
                yield rollout
        finally:
            self.under_way -= left

    def failed(self, problem: Exception) -> None:
        """Work on this engine failed: looks, in the background, whether it is dead, and starts it
        again then.
        """
        if self.up:
            self._begin_recovery(problem, must_restart=False)

    async def swap(self, version: PolicyVersion) -> float:
        """Take new weights; return seconds. An engine that is down, or that fails now, takes them
        when it is back.
        """
        self.version = version
        if version.kind == "checkpoint":
            self._base = version
        if not self.up:
            return 0.0
        try:
            seconds = await self.engine.swap(version)
            self._taken = version
            return seconds
        except InfraError as problem:
            if self.up:
                self._begin_recovery(problem, must_restart=True)
            return 0.0

    async def sleep(self) -> None:
        """Free its GPU until the next swap (colocate.py); an engine that cannot is started again by
        that swap."""
        if self.up:
            try:
                await self.engine.sleep()
            except InfraError as problem:
                self._begin_recovery(problem, must_restart=True)

    async def close(self) -> None:
        """Stop a recovery that is under way and end the engine."""
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait([self._recovery])
        await self.engine.end()

    def _begin_recovery(self, problem: Exception, must_restart: bool) -> None:
        self._recovery = asyncio.create_task(self._recover(problem, must_restart))

    async def _recover(self, problem: Exception, must_restart: bool) -> None:
        try:
            fault = problem if must_restart else await self._fault()
            if fault is not None:
                await self._restart(fault)
        # Nobody else would see this task's end, and the engine would stay "up".
        except Exception as error:  # noqa: BLE001
            self.lost = InfraError(f"{self.name}: its recovery failed: {error!r}")
            log.error("%s", self.lost)
        # at once, so that no swap falls between the last look at `version` and being up again
        finally:
            self._recovery = None

    async def _fault(self) -> Exception | None:
        """Return what is wrong with the engine; None: it lives, and what failed was the work."""
        try:
            await self.engine.check()
            await self._catch_up()
            return None
        except Exception as problem:  # noqa: BLE001 (an engine that is sound raises nothing)
            return problem

    async def _restart(self, problem: Exception) -> None:
        start = time.monotonic()
        while self.restarts.take():
            log.warning("%s: %s; starting it again (%s)", self.name, problem, self.restarts)
            try:
                await self.engine.end()
                self.engine, self._taken = await self.start(self.restarts.done), None
                await self._catch_up()
                log.warning("%s works again, after %.0f s", self.name, time.monotonic() - start)
                return
            except (InfraError, UserError) as error:
                problem = error
        self.lost = InfraError(
            f"{self.name} is lost after {self.restarts.limit} restarts within an hour "
            f"(rollout.max_restarts); the last problem: {problem}"
        )

    async def _catch_up(self) -> None:
        """Take the newest version, which may become newer meanwhile."""
        while (version := self.version) is not None and self._taken is not version:
            if self._taken is None and version.kind == "adapter" and self._base is not None:
                await self.engine.swap(self._base)
            await self.engine.swap(version)
            self._taken = version


async def restarting_learner(attempt: Callable[[int], Awaitable[None]], max_restarts: int) -> None:
    """Await attempt(0) and, after each LearnerLost, attempt(life), which must begin at the newest
    checkpoint.

    Raises InfraError, saying so, when the restarts are used up.
    """
    restarts = Restarts(max_restarts)
    while True:
        try:
            return await attempt(restarts.done)
        except LearnerLost as problem:
            if not restarts.take():
                raise InfraError(
                    f"the learner is lost after {max_restarts} restarts within an hour "
                    f"(learner.max_restarts); the last problem: {problem}"
                ) from problem
            log.warning("%s; starting the learner again (%s)", problem, restarts)
