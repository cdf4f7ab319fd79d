"""Which groups a step trains on: batch assembly, with dynamic sampling (DAPO) where that is
switched on. Pure.

Groups are taken in the order of their prompts. Without dynamic sampling a step trains on the next
prompts_per_step. With it, a group without any advantage (all rewards equal, fewer than two scored,
picture unreadable) is dropped and a further prompt is taken instead, until the batch is full or
max_refills further prompts are used up; then the step trains on what it has. What is dropped stays
in metrics.jsonl and rollouts.jsonl; no prompt is taken twice."""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.config import RolloutConfig
from geoagent_rl.types import Group


def trains(group: Group, config: RolloutConfig) -> bool:
    """Say whether a step learns from the group; without dynamic sampling always (its KL term may
    still count)."""
    return not config.dynamic_sampling or any(group.advantages)


def still_wanted(taken: Sequence[Group], config: RolloutConfig) -> int:
    """Return how many more groups a step that has taken these can take if none is dropped; 0: the
    batch is complete."""
    size = config.prompts_per_step
    limit = size + config.max_refills * config.dynamic_sampling
    return min(size - sum(trains(g, config) for g in taken), limit - len(taken))
