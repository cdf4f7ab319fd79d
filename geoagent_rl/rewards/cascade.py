"""Two judges: a small one first, the large one where the small one is unsure, and about a sampled
share.

Unsure: the mean log-probability of its answer's tokens lies below a threshold. Which questions are
sampled follows from the question alone, so every replica and every later run samples the same. On
these both answers are compared: that is the measured agreement. Where the large judge is asked its
verdict counts, and its failure is the question's: the small one's doubtful word is no substitute.
May know nothing of engines, HTTP or caches."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

from geoagent_rl.answers.hedge import is_hedge
from geoagent_rl.config.services import CascadeConfig
from geoagent_rl.geo.folding import normalise
from geoagent_rl.rewards.consistency_prompt import question
from geoagent_rl.rewards.services import JudgeAgent, JudgeItem, Verdict


class Cascade:
    """Asks `small`, whose verdicts have a logprob, and where it is needed `large`.

    Counts verdicts given: cascade_verdicts, cascade_raised (by `large`), cascade_sampled (by both
    because of the sample), cascade_agreed (those of them that were alike)."""

    def __init__(
        self,
        small: JudgeAgent,
        large: JudgeAgent,
        config: CascadeConfig,
        counters: Counter[str] | None = None,
    ):
        self.small, self.large, self.config = small, large, config
        self.counters = Counter[str]() if counters is None else counters

    async def judge(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Return a verdict for each item, in order. Raises InfraError."""
        return list(await asyncio.gather(*map(self.verdict, items)))

    async def verdict(self, item: JudgeItem) -> Verdict:
        """Return the verdict of the judge whose turn it is. Raises InfraError."""
        first = await self.small.verdict(item)
        sampled = is_sampled(item, self.config.sampled_share)
        if not sampled and not is_unsure(first.logprob, self.config.unsure_below):
            self.counters["cascade_verdicts"] += 1
            return first
        last = await self.large.verdict(item)
        self.counters.update(("cascade_verdicts", "cascade_raised"))
        if sampled:
            self.counters["cascade_sampled"] += 1
            self.counters["cascade_agreed"] += alike(first.conclusion, last.conclusion)
        return dataclasses.replace(last, seconds=first.seconds + last.seconds)

    async def check_health(self) -> None:
        """Raise where only another replica helps."""
        await self.small.check_health()
        await self.large.check_health()

    def stop(self) -> None:
        """End the processes of both."""
        self.small.stop()
        self.large.stop()


def is_unsure(logprob: float | None, unsure_below: float) -> bool:
    """Return whether a verdict of this mean log-probability goes up; one without any does."""
    return logprob is None or logprob < unsure_below


def is_sampled(item: JudgeItem, share: float) -> bool:
    """Return whether a question belongs to the sampled share."""
    digest = hashlib.sha256(question(item).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def alike(a: str, b: str) -> bool:
    """Return whether two conclusions say the same: equal as normalised text, or both no name."""
    return normalise(a) == normalise(b) or (is_hedge(a) and is_hedge(b))
