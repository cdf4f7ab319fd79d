"""Fake engine, scorer and learner with a clock: for the driver's properties, fault timing and
scale.
"""

import asyncio
import random

from geoagent_rl.types import (
    InfraError,
    Outcome,
    PolicyVersion,
    Prompt,
    Rollout,
    ScoredRollout,
    Truth,
)

TRUTH = Truth("Japan", "Tokyo", "Tokyo", 35.69, 139.69)


def prompt_at(i: int) -> Prompt:
    return Prompt(f"p{i}", f"/images/{i}.png", TRUTH)


class FakeEngine:
    """Yields n completions, each after `seconds`; fails for ever or for the prompts in
    `fails_once`.
    """

    def __init__(
        self, seconds: float = 0.0, fails_once: frozenset[str] = frozenset(), dead: bool = False
    ) -> None:
        self.seconds, self.fails_once, self.dead = seconds, set(fails_once), dead
        self.version, self.swaps, self.started = 0, [], []
        self.up, self.under_way = True, 0

    async def ready(self):
        pass

    async def answers(self):
        return True

    def failed(self, problem):
        pass

    async def generate(self, prompt, sampling):
        version = self.version
        self.started.append((prompt.uid, version))
        for i in range(sampling.n):
            await asyncio.sleep(self.seconds)
            if self.dead or (prompt.uid in self.fails_once and i == sampling.n // 2):
                self.fails_once.discard(prompt.uid)
                raise InfraError("engine died")
            spans = {"submitted": 0.0, "first_token": 0.0, "generated": self.seconds * (i + 1)}
            yield Rollout(
                prompt.uid,
                i,
                (1,),
                (2, 3),
                (-0.1, -0.1),
                f"{sampling.seed}:{i}",
                "stop",
                version,
                spans,
            )

    async def swap(self, version):
        self.version = version.number
        self.swaps.append(version.number)
        return 0.0


class FakeScorer:
    """Total = a fixed hash of the completion; a share of the samples is unscorable."""

    def __init__(self, seconds: float = 0.0, unscorable: float = 0.0) -> None:
        self.seconds, self.unscorable, self.seen = seconds, unscorable, []

    async def score(self, prompt: Prompt, rollout: Rollout) -> ScoredRollout:
        await asyncio.sleep(self.seconds)
        self.seen.append((prompt.uid, rollout.index))
        chance = random.Random(rollout.text)
        if chance.random() < self.unscorable:
            parts, total = {"spatial": Outcome("infra", None, "geocoder timed out")}, None
        else:
            total = chance.random()
            parts = {"spatial": Outcome("score", total)}
        return ScoredRollout(rollout, parts, total)


class FakeLearner:
    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.number, self.groups = seconds, 0, []
        self.turn = asyncio.Lock()

    async def accumulate(self, group):
        async with self.turn:
            await asyncio.sleep(self.seconds)
        self.groups.append((self.number, group))

    async def step(self):
        self.number += 1
        return PolicyVersion(self.number, "checkpoint", "nowhere"), {"loss": 0.0}
