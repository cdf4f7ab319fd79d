"""The same GPUs for engines, learner and judges: they take turns. Engines generate, judges answer
while nothing is generated, and engines sleep while the learner learns.

May know the protocols of driver.py only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from geoagent_rl.driver import GrpoLearner
from geoagent_rl.generation import Engine, Scorer
from geoagent_rl.types import Group, PolicyVersion, Prompt, Rollout, ScoredRollout

POLL_S = 0.02  # how soon it is noticed that engines are idle


class Sleeper(Protocol):
    """What frees a GPU until it is needed again."""

    async def sleep(self) -> None:
        """Free the GPU until the next swap."""


class ColocatedLearner:
    """A driver.GrpoLearner that keeps the step's groups until all are there, puts the engines to
    sleep and then learns.

    The swap that follows every step wakes them. At max_staleness 0 nothing is in flight by then."""

    def __init__(self, learner: GrpoLearner, engines: Sequence[Sleeper]) -> None:
        self.learner, self.engines = learner, engines
        self.groups: list[Group] = []

    async def accumulate(self, group: Group) -> None:
        """Keep the group until the step."""
        self.groups.append(group)

    async def step(self) -> tuple[PolicyVersion, dict[str, float]]:
        """Put the engines to sleep, then learn from every group."""
        await asyncio.gather(*(engine.sleep() for engine in self.engines))
        waiting, self.groups = self.groups, []
        for group in waiting:
            await self.learner.accumulate(group)
        return await self.learner.step()


class ScorerAfterRollout:
    """A generation.Scorer that begins when no engine has anything to do: judges on the engines'
    GPUs then answer on all of them at once.

    A judge that answers meanwhile holds up its GPU's engine, and with it the other GPUs of a tensor
    parallel one, again for every completion that ends (docs/scaling.md)."""

    def __init__(self, scorer: Scorer, engines: Sequence[Engine]) -> None:
        self.scorer, self.engines, self.looking = scorer, engines, asyncio.Lock()

    async def score(self, prompt: Prompt, rollout: Rollout) -> ScoredRollout:
        """Wait for the engines, then score. Deadlines begin after the wait."""
        async with self.looking:  # one looks, the others wait for it
            while any(engine.under_way for engine in self.engines):  # noqa: ASYNC110 (no event)
                await asyncio.sleep(POLL_S)
        return await self.scorer.score(prompt, rollout)
