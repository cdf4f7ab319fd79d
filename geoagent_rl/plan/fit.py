"""Whether each role of a run fits into its GPU's memory."""

from __future__ import annotations

from collections.abc import Mapping

from geoagent_rl.config import Config
from geoagent_rl.plan.gpus import gpu
from geoagent_rl.plan.memory import (
    GIB,
    Lengths,
    engine_memory,
    judge_memory,
    learner_memory,
    learner_room,
)
from geoagent_rl.plan.resources import ENGINE, JUDGE, LEARNER, Role, judges_share_gpus
from geoagent_rl.policy.architecture import Architecture

Memories = Mapping[str, Mapping[str, float]]  # role -> use -> bytes on one GPU


def memories(
    config: Config, policy: Architecture, judge: Architecture, lengths: Lengths
) -> Memories:
    """Return what each role takes of a GPU."""
    return {
        ENGINE: engine_memory(config, policy),
        LEARNER: learner_memory(config, policy, lengths),
        JUDGE: judge_memory(config, judge) if config.judge.has_engine else {},
    }


def total_of(memory: Mapping[str, float]) -> float:
    """Return the bytes of all uses."""
    return sum(value for name, value in memory.items() if name != "cache_tokens")


def capacity_of(role: Role, config: Config, of: Memories) -> float:
    """Return the bytes of one GPU that a role may take. Engines and ranks that share GPUs leave
    room for each other: a sleeping engine keeps its context, a waiting rank all but activations."""
    whole = gpu(config.placement.gpu).memory_gib * GIB
    if role.name == LEARNER:
        return learner_room(config)
    if not config.placement.colocate or role.name == JUDGE:
        return whole * min(1.0, role.gpus)
    judge = config.judge.memory if judges_share_gpus(config) else 0.0
    passing = ("activations", "vision")
    resident = sum(v for name, v in of[LEARNER].items() if name not in passing)
    return whole * (1 - judge) - resident


def fits(role: Role, config: Config, of: Memories) -> bool:
    """Say whether a role on GPUs fits, with room for a key-value cache where it has one."""
    memory = of.get(role.name, {})
    room = memory.get("kv_cache", 1.0) > 0
    return total_of(memory) <= capacity_of(role, config, of) + 1 and room
