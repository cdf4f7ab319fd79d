"""The metric table, and what one step's event spans say: who was busy, what the learner waited for, the bound T*.

One place names every metric with its unit and meaning; metrics.jsonl, TensorBoard, `ray.util.metrics` and the report
use these names. All times are seconds of the driver's monotonic clock. May know nothing of Ray.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from geoagent_rl.types import Group

PARTS = ("spatial", "semantic", "consistency", "format", "answer_format", "exact_match")
MEAN = re.compile(r"reward_\w+_mean")
CACHED = ("geocode", "similarity", "judge")  # what reward services cache

# name -> (unit, meaning). Names that end in _<part> stand for each reward part.
METRICS: dict[str, tuple[str, str]] = {
    "step": ("count", "optimizer step, from 1"),
    "prompts": ("count", "prompts that the run has taken so far, dropped ones included (grpo/sampling.py)"),
    "version": ("count", "policy version that generated this batch (the oldest in it)"),
    "reward_total_mean": ("reward", "mean weighted total over scored samples"),
    "reward_total_std": ("reward", "standard deviation of the total over scored samples"),
    **{
        f"reward_{p}_mean": ("score", f"mean {p} score over samples in which it is known, before weighting")
        for p in PARTS
    },
    "advantage_abs_mean": ("advantage", "mean absolute advantage"),
    "zero_variance_share": ("share", "groups whose advantages are all 0"),
    "unscorable_share": ("share", "samples left out because a required reward part failed"),
    "data_failure_share": ("share", "samples with at least one reward part scored as a failure of the answer itself"),
    "bad_image_share": ("share", "prompts left out because their picture could not be decoded"),
    "truncated_share": ("share", "completions cut off at rollout.max_tokens"),
    "completion_tokens_mean": ("tokens", "mean completion length"),
    "tokens_per_s": ("tokens/s", "completion tokens over the step's wall time"),
    "loss": ("loss", "policy loss of the step"),
    "kl": ("nats", "mean k3 estimate of KL(policy || reference) per token"),
    "entropy": ("nats", "mean token entropy at the sampling temperature"),
    "clip_fraction": ("share", "tokens whose ratio was clipped"),
    "importance_weight": ("ratio", "mean truncated importance weight per token (learner.importance)"),
    "grad_norm": ("norm", "gradient norm before clipping"),
    "lr": ("1", "learning rate of the step"),
    "sampler_gap": ("nats", "mean difference of learner and engine log-probabilities; far above 1e-3: a mismatch"),
    "train_tokens": ("tokens", "completion tokens in the loss"),
    "step_skipped": ("0/1", "1: no update, because a loss or gradient was not finite or no sample could be scored"),
    "learn_seconds": ("s", "the learner's own account of its work, publishing left out"),
    "publish_seconds": ("s", "writing the new policy version and its probe"),
    "step_seconds": ("s", "wall time of the step"),
    "rollout_busy_seconds": ("s", "time in which at least one completion was being generated"),
    "reward_busy_seconds": ("s", "time in which at least one sample was being scored"),
    "learn_busy_seconds": ("s", "time in which the learner was accumulating or stepping"),
    "swap_seconds": ("s", "time from a new policy version to all engines having it"),
    "reward_exposed_seconds": ("s", "learner idle while a fully generated group was unscored"),
    "rollout_wait_seconds": ("s", "learner idle while no group was fully generated and unscored"),
    "bound_seconds": ("s", "T* = max(rollout, reward, learn busy): the step cannot be shorter with these parts"),
    "efficiency": ("share", "T* / wall time of the step"),
    "cache_hit_share": ("share", "reward service items answered from the cache"),
    **{f"cache_hit_share_{k}": ("share", f"{k} items answered from the cache") for k in CACHED},
}

Interval = tuple[float, float]


@dataclass
class StepClock:
    """Event spans of one step. Intervals are (start, end)."""

    start: float
    end: float = 0.0
    learning: list[Interval] = field(default_factory=list)
    swapping: list[Interval] = field(default_factory=list)


def union(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """Disjoint, sorted intervals covering the same time inside `window`."""
    merged: list[Interval] = []
    for a, b in sorted((max(a, window[0]), min(b, window[1])) for a, b in intervals):
        if a >= b:
            continue
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], b))
        else:
            merged.append((a, b))
    return merged


def length(intervals: Sequence[Interval]) -> float:
    return math.fsum(b - a for a, b in intervals)


def overlap(left: Sequence[Interval], right: Sequence[Interval]) -> float:
    """Time that two disjoint sorted lists have in common."""
    return math.fsum(max(0.0, min(b, d) - max(a, c)) for a, b in left for c, d in right)


def gaps(intervals: Sequence[Interval], window: Interval) -> list[Interval]:
    """The time of `window` that disjoint sorted `intervals` leave free."""
    edges = [window[0], *[t for interval in intervals for t in interval], window[1]]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def time_metrics(clock: StepClock, groups: Sequence[Group]) -> dict[str, float]:
    """Busy times, the learner's idle time by cause, T* and efficiency of one step."""
    window = (clock.start, clock.end)
    spans = [s.rollout.spans for g in groups for s in g.samples]
    generating = union(((s["submitted"], s["generated"]) for s in spans), window)
    scoring = union(((s["generated"], s["scored"]) for s in spans), window)
    working = union([*clock.learning, *clock.swapping], window)
    learning = length(union(clock.learning, window))
    complete = [
        (max(s.rollout.spans["generated"] for s in g.samples), max(s.rollout.spans["scored"] for s in g.samples))
        for g in groups
        if g.samples
    ]
    idle = gaps(working, window)
    exposed = overlap(idle, union(complete, window))
    wall = clock.end - clock.start
    bound = max(length(generating), length(scoring), learning)
    return {
        "step_seconds": wall,
        "rollout_busy_seconds": length(generating),
        "reward_busy_seconds": length(scoring),
        "learn_busy_seconds": learning,
        "swap_seconds": length(union(clock.swapping, window)),
        "reward_exposed_seconds": exposed,
        "rollout_wait_seconds": length(idle) - exposed,
        "bound_seconds": bound,
        "efficiency": bound / wall if wall > 0 else 1.0,
    }


def sample_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Rewards, advantages and lengths of one batch of groups."""
    samples = [s for g in groups for s in g.samples]
    totals = [s.total for s in samples if s.total is not None]
    rollouts = [s.rollout for s in samples]
    out = {
        "version": min((r.version for r in rollouts), default=-1),
        "bad_image_share": mean([float(not g.samples) for g in groups]),
        "reward_total_mean": mean(totals),
        "reward_total_std": statistics.stdev(totals) if len(totals) > 1 else 0.0,
        "advantage_abs_mean": mean([abs(a) for g in groups for a in g.advantages]),
        "zero_variance_share": mean([float(not any(g.advantages)) for g in groups]),
        "unscorable_share": 1 - len(totals) / max(len(samples), 1),
        "data_failure_share": mean([float(any(o.kind == "data" for o in s.parts.values())) for s in samples]),
        "truncated_share": mean([float(r.finish_reason == "length") for r in rollouts]),
        "completion_tokens_mean": mean([len(r.completion_ids) for r in rollouts]),
    }
    for part in part_names(name for s in samples for name in s.parts):
        known = [s.parts[part].score for s in samples if part in s.parts and s.parts[part].score is not None]
        if known:
            out[f"reward_{part}_mean"] = mean(known)
    return out


def part_names(found: Iterable[str]) -> list[str]:
    """The reward parts among `found` in the order of PARTS, then those of the user's own (reward.custom)."""
    names = dict.fromkeys(found)
    return [name for name in PARTS if name in names] + [name for name in names if name not in PARTS]


def parts_measured(row: Iterable[str]) -> list[str]:
    """The reward parts whose mean is among the names of metrics."""
    found = (name.removeprefix("reward_").removesuffix("_mean") for name in row if MEAN.fullmatch(name))
    return part_names(name for name in found if name != "total")


def hit_shares(counters: Mapping[str, int]) -> dict[str, float]:
    """cache_hit_share, over all and per kind, from <kind>_hits and <kind>_misses; only of kinds that were asked."""
    asked = {k: (counters.get(f"{k}_hits", 0), counters.get(f"{k}_misses", 0)) for k in CACHED}
    asked = {k: (hits, hits + misses) for k, (hits, misses) in asked.items() if hits + misses}
    out = {f"cache_hit_share_{k}": hits / n for k, (hits, n) in asked.items()}
    if asked:
        out["cache_hit_share"] = sum(hits for hits, _ in asked.values()) / sum(n for _, n in asked.values())
    return out


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else float("nan")


def summary_line(step: int, steps: int, row: dict[str, float]) -> str:
    """The live line: step, reward parts, tokens/s, what the learner waited for."""
    parts = " ".join(f"{p[:3]} {row[f'reward_{p}_mean']:.2f}" for p in parts_measured(row))
    waits = {
        "rollout": row["rollout_wait_seconds"],
        "rewards": row["reward_exposed_seconds"],
        "swap": row["swap_seconds"],
    }
    longest = max(waits, key=waits.get)
    return (
        f"step {step}/{steps}  reward {row['reward_total_mean']:.3f}  [{parts}]  {row['tokens_per_s']:.0f} tok/s  "
        f"{row['step_seconds']:.1f} s  waited {waits[longest]:.1f} s for {longest}"
    )
