"""One GPU for engine and learner: they take turns. The engine sleeps while the learner learns.

May know the protocols of driver.py only.
"""

from __future__ import annotations

from typing import Protocol

from geoagent_rl.driver import Learner
from geoagent_rl.types import Group, PolicyVersion


class Sleeper(Protocol):
    """What frees a GPU until it is needed again."""

    async def sleep(self) -> None:
        """Frees the GPU until the next swap."""


class ColocatedLearner:
    """A driver.Learner that keeps the step's groups until all are there, puts the engine to sleep
    and then learns.

    The swap that follows every step wakes the engine. At max_staleness 0 nothing is in flight by
    then."""

    def __init__(self, learner: Learner, engine: Sleeper) -> None:
        self.learner, self.engine = learner, engine
        self.groups: list[Group] = []

    async def accumulate(self, group: Group) -> None:
        """Keep the group until the step."""
        self.groups.append(group)

    async def step(self) -> tuple[PolicyVersion, dict[str, float]]:
        """Put the engine to sleep, then learn from every group."""
        await self.engine.sleep()
        waiting, self.groups = self.groups, []
        for group in waiting:
            await self.learner.accumulate(group)
        return await self.learner.step()
