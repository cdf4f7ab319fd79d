"""The same GPUs the other way: separate pools for engines and learner where they take turns on the
same GPUs (placement.colocate), and the other way round. Which is quicker, and why."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from geoagent_rl.config import Config
from geoagent_rl.plan.costs import Costs
from geoagent_rl.plan.fit import fits, memories
from geoagent_rl.plan.layout import gpu_roles
from geoagent_rl.plan.schedule import step_time

PARALLEL = (1, 2, 4)  # GPUs of an engine
SHARE = 0.4  # of a GPU and its memory, for an engine beside a rank


def other_layout(costs: Costs, step: dict[str, float]) -> dict[str, Any] | None:
    """Return the quickest layout of the other kind on the GPUs that the run asks for: its step
    seconds and the values that make it. None where there is none (one GPU, or staleness)."""
    config = costs.config
    total = round(sum(role.count * role.gpus for role in gpu_roles(config)))
    if total < 2 or config.max_staleness:
        return None
    kind = separate if config.placement.colocate else colocated
    best: dict[str, Any] | None = None
    for tried in kind(config, total):
        needed = memories(tried, costs.policy, costs.judge, costs.lengths)
        if not all(fits(role, tried, needed) for role in gpu_roles(tried)):
            continue
        time = step_time(replace(costs, config=tried), step)
        if best is None or time["step_seconds"] < best["step_seconds"]:
            best = {"colocate": tried.placement.colocate, "values": values(tried), **time}
    return best


def separate(config: Config, total: int) -> Iterator[Config]:
    """Yield pools of their own on `total` GPUs: of engines, ranks, and judges."""
    step, judged = max(1, total // 8), config.judge.engine_gpus > 0
    for judges in (step, 2 * step) if judged else (0,):
        judge = config.judge
        if judged:
            judge = replace(judge, replicas=judges, gpus_per_replica=1.0, memory=0.7)
        left = total - judges
        for gpus, parallel in itertools.product(range(step, left, step), PARALLEL):
            if gpus % parallel == 0:
                yield replace(
                    config,
                    placement=replace(config.placement, colocate=False),
                    rollout=engine(config, gpus // parallel, parallel, float(parallel), 0.7),
                    learner=replace(config.learner, ranks=left - gpus, gpus_per_rank=1.0),
                    judge=judge,
                )


def colocated(config: Config, total: int) -> Iterator[Config]:
    """Yield engines of 1, 2 and 4 GPUs with a rank on each: judges as they are, or on a share of
    every GPU."""
    judge = config.judge
    whole = round(judge.replicas * judge.engine_gpus)
    shared = replace(judge, replicas=total, gpus_per_replica=0.3, memory=0.28)
    for left, judges in ((total - whole, judge), (total, shared if whole else judge)):
        for parallel in PARALLEL:
            if left % parallel or left < parallel:
                continue
            yield replace(
                config,
                placement=replace(config.placement, colocate=True),
                rollout=engine(config, left // parallel, parallel, SHARE, SHARE),
                learner=replace(config.learner, ranks=left, gpus_per_rank=0.7 - SHARE),
                judge=judges,
            )


def engine(config: Config, count: int, parallel: int, gpus: float, memory: float) -> Any:
    """Return the rollout's settings with these engines."""
    return replace(
        config.rollout,
        engines=count,
        tensor_parallel=parallel,
        gpus_per_engine=gpus,
        memory=memory,
    )


def values(config: Config) -> list[str]:
    """Return the overrides that say which layout it is."""
    r, c, j = config.rollout, config.learner, config.judge
    return [
        f"placement.colocate={str(config.placement.colocate).lower()}",
        f"rollout.engines={r.engines}",
        f"rollout.tensor_parallel={r.tensor_parallel}",
        f"rollout.gpus_per_engine={r.gpus_per_engine:g}",
        f"rollout.memory={r.memory:g}",
        f"learner.ranks={c.ranks}",
        f"learner.gpus_per_rank={c.gpus_per_rank:g}",
        f"judge.replicas={j.replicas}",
        f"judge.gpus_per_replica={j.gpus_per_replica:g}",
        f"judge.memory={j.memory:g}",
    ]


def text(time: dict[str, Any], other: dict[str, Any]) -> str:
    """Return which of the two is quicker and where the difference comes from, in one line."""
    mine, theirs = time["step_seconds"], other["step_seconds"]
    here, there = (
        ("separate pools", "colocated") if other["colocate"] else ("colocated", "separate")
    )
    terms = {name: other["terms"][name] - value for name, value in time["terms"].items()}
    largest = sorted(terms, key=lambda name: -abs(terms[name]))[:3]
    why = ", ".join(f"{name} {terms[name]:+.1f} s" for name in largest)
    quicker = there if theirs < mine else here
    return (
        f"layout: {here} {mine:.1f} s, {there} on the same GPUs {theirs:.1f} s ({why}); "
        f"quicker: {quicker}; {there}: {' '.join(other['values'])}"
    )
