"""What each completion of a step is credited with: its advantage, made of its scores as
learner.advantage says. The formulas are grpo/advantages.py's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from geoagent_rl.config import Config
from geoagent_rl.config.schedule import at_version
from geoagent_rl.grpo.advantages import group_advantages, over_batch, part_advantages
from geoagent_rl.grpo.overlong import penalised
from geoagent_rl.rewards.total import part_weights
from geoagent_rl.types import Group, ScoredRollout

OVER_BATCH = ("batch", "gdpo")  # finished when all groups of a step are there


def advantages_of_group(config: Config, scored: Sequence[ScoredRollout]) -> list[float]:
    """Return the advantages within a group; those of OVER_BATCH are not yet scaled."""
    kind = config.learner.advantage
    if kind != "gdpo":
        return group_advantages(comparable_totals(config, scored), scaled=kind == "group")
    parts = [
        None if s.total is None else {name: outcome.score for name, outcome in s.parts.items()}
        for s in scored
    ]
    version = scored[0].rollout.version if scored else 0
    return part_advantages(parts, part_weights(at_version(config.reward, version)))


def with_batch_advantages(config: Config, groups: Sequence[Group]) -> list[Group]:
    """Return a step's groups with advantages scaled over all of them."""
    totals = [comparable_totals(config, group.samples) for group in groups]
    found = over_batch(config.learner.advantage, [group.advantages for group in groups], totals)
    return [
        dataclasses.replace(group, advantages=tuple(own))
        for group, own in zip(groups, found, strict=True)
    ]


def comparable_totals(config: Config, scored: Sequence[ScoredRollout]) -> list[float | None]:
    """Return what advantages are made of: the total rewards, after the overlong penalty where that
    is chosen.
    """
    totals, c = [s.total for s in scored], config.learner
    if c.overlong != "penalty":
        return totals
    lengths = [len(s.rollout.completion_ids) for s in scored]
    return penalised(
        totals, lengths, config.rollout.max_tokens, c.overlong_buffer, c.overlong_penalty
    )
