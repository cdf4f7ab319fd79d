"""What answers to each photograph have earned in a run so far, for a curriculum that follows it.

An order that is made for prompt number i counts the steps that have ended for certain whenever that
prompt is asked for: those that had taken no more than i - `under_way` prompts. So it depends on
what is recorded alone, and a resumed run makes it again. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean, pstdev
from typing import Any

from geoagent_rl.config import Config
from geoagent_rl.types import Group

BY_REWARD = ("reward_mean", "reward_std")  # values of curriculum.by


class Earned:
    """Total rewards by step and photograph; unscorable answers are left out."""

    def __init__(self, config: Config) -> None:
        rollout, self.by = config.rollout, config.curriculum.by
        # at most: started prompts that no finished step has taken (driver.train)
        self.under_way = rollout.prompts_per_step * (1 + config.max_staleness)
        self.under_way += rollout.max_refills * rollout.dynamic_sampling
        self.steps: dict[int, tuple[int, list[tuple[str, float]]]] = {}

    def add(self, step: int, prompts: int, groups: Iterable[Group]) -> None:
        """Note a finished step. prompts: taken by then since the run's start."""
        totals = [(g.prompt.uid, s.total) for g in groups for s in g.samples]
        self.steps[step] = prompts, [(uid, r) for uid, r in totals if r is not None]

    def restore(
        self, steps: Iterable[Mapping[str, Any]], answers: Iterable[Mapping[str, Any]]
    ) -> None:
        """Know what a run has recorded, and nothing else. steps: rows of metrics.jsonl; answers:
        of rollouts.jsonl."""
        self.steps = {row["step"]: (row["prompts"], []) for row in steps}
        for row in answers:
            if row["total"] is not None and row["step"] in self.steps:  # no line that was damaged
                self.steps[row["step"]][1].append((row["uid"], row["total"]))

    def ease_at(self, number: int) -> dict[str, float]:
        """Return how easy each photograph is that has been answered in the steps that count for
        prompt `number`: the mean of its rewards, or for reward_std their standard deviation: where
        answers differ there is something to learn."""
        found = defaultdict[str, list[float]](list)
        for prompts, totals in self.steps.values():
            if prompts <= number - self.under_way:
                for uid, total in totals:
                    found[uid].append(total)
        measure = fmean if self.by == "reward_mean" else pstdev
        return {uid: measure(rewards) for uid, rewards in found.items()}
