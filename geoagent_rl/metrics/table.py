"""The metric table, and what one step's event spans say: who was busy, what the learner waited for,
the bound T*.

One place names every metric with its unit and meaning; metrics.jsonl, TensorBoard,
`ray.util.metrics`, W&B, the report, the monitor, the Grafana dashboard and docs/metrics.md use
these names. What the samples of a batch say is computed in batch_metrics.py. All times are seconds
of the driver's monotonic clock. May know nothing of Ray."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from geoagent_rl.types import Group

PARTS = ("spatial", "semantic", "consistency", "format", "answer_format", "exact_match")
MEAN = re.compile(r"reward_\w+_mean")
CACHED = ("geocode", "similarity", "judge")  # what reward services cache
SERVICES = ("geo_embed", "judge")  # deployments that have replicas
QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}
LATENCY_QUANTILES = {"q50": 0.5, "q95": 0.95}

# name -> (unit, meaning), by section
PROGRESS: dict[str, tuple[str, str]] = {
    "step": ("count", "optimizer step, from 1"),
    "prompts": (
        "count",
        "prompts that the run has taken so far, dropped ones included (grpo/sampling.py)",
    ),
    "version": ("count", "policy version that generated this batch (the oldest in it)"),
    "staleness_mean": (
        "versions",
        "mean number of updates between the version that generated a sample and its use",
    ),
    "staleness_max": ("versions", "the same, of the stalest sample"),
}
REWARDS: dict[str, tuple[str, str]] = {
    "reward_total_mean": ("reward", "mean weighted total over scored samples"),
    "reward_total_std": ("reward", "standard deviation of the total over scored samples"),
    **{
        f"reward_total_{q}": ("reward", f"{at} quantile of the total over scored samples")
        for q, at in QUANTILES.items()
    },
    **{
        f"reward_{p}_mean": (
            "score",
            f"mean {p} score over samples in which it is known, before weighting",
        )
        for p in PARTS
    },
    **{f"reward_{p}_std": ("score", f"standard deviation of the {p} score") for p in PARTS},
    **{
        f"reward_{p}_{q}": ("score", f"{at} quantile of the {p} score")
        for p in PARTS
        for q, at in QUANTILES.items()
    },
    "validation_reward": (
        "reward",
        "mean total reward on held-out pictures after the step (run.validate_every)",
    ),
    "advantage_abs_mean": ("advantage", "mean absolute advantage"),
    "advantage_std": ("advantage", "standard deviation of the advantages over all samples"),
    "zero_variance_share": ("share", "groups whose advantages are all 0"),
}
SAMPLES: dict[str, tuple[str, str]] = {
    "unscorable_share": ("share", "samples left out because a required reward part failed"),
    **{
        f"unscorable_share_{p}": (
            "share",
            f"samples whose {p} part failed for want of a machine or service",
        )
        for p in PARTS
    },
    "data_failure_share": (
        "share",
        "samples with at least one reward part scored as a failure of the answer itself",
    ),
    **{
        f"data_failure_share_{p}": (
            "share",
            f"samples whose {p} part is a failure of the answer itself",
        )
        for p in PARTS
    },
    "bad_image_share": ("share", "prompts left out because their picture could not be decoded"),
    "truncated_share": ("share", "completions cut off at rollout.max_tokens"),
    "completion_tokens_mean": ("tokens", "mean completion length"),
    "completion_tokens_q90": ("tokens", "0.9 quantile of the completion length"),
    "completion_tokens_max": ("tokens", "longest completion"),
    "prompt_tokens_mean": ("tokens", "mean prompt length, image tokens included"),
}
LEARNING: dict[str, tuple[str, str]] = {
    "loss": ("loss", "policy loss of the step"),
    "kl": ("nats", "mean k3 estimate of KL(policy || reference) per token"),
    "entropy": ("nats", "mean token entropy at the sampling temperature"),
    "clip_fraction": ("share", "tokens whose ratio was clipped"),
    "importance_weight": (
        "ratio",
        "mean truncated importance weight per token (learner.importance)",
    ),
    "grad_norm": ("norm", "gradient norm before clipping"),
    "lr": ("1", "learning rate of the step"),
    "sampler_gap": (
        "nats",
        "mean difference of learner and engine log-probabilities; far above 1e-3: a mismatch",
    ),
    "train_tokens": ("tokens", "completion tokens in the loss"),
    "step_skipped": (
        "0/1",
        "1: no update: a loss or gradient not finite or beyond bounds, or no sample scored",
    ),
    "steps_skipped": ("count", "steps without an update so far"),
}
TIMES: dict[str, tuple[str, str]] = {
    "tokens_per_s": ("tokens/s", "completion tokens over the step's wall time"),
    "step_seconds": ("s", "wall time of the step"),
    "rollout_busy_seconds": ("s", "time in which at least one completion was being generated"),
    "reward_busy_seconds": ("s", "time in which at least one sample was being scored"),
    "learn_busy_seconds": ("s", "time in which the learner was accumulating or stepping"),
    "learn_seconds": ("s", "the learner's own account of its work, publishing left out"),
    "publish_seconds": ("s", "writing the new policy version and its probe"),
    "swap_seconds": ("s", "time from a new policy version to all engines having it"),
    "reward_exposed_seconds": (
        "s",
        "learner idle while the group whose turn it was lay generated and unscored",
    ),
    "rollout_wait_seconds": (
        "s",
        "learner idle while the group whose turn it was was being generated",
    ),
    "bound_seconds": (
        "s",
        "T* = max(rollout, reward, learn busy): the step cannot be shorter with these parts",
    ),
    "efficiency": ("share", "T* / wall time of the step"),
    "save_seconds": (
        "s",
        "time that the checkpoint after the step before held the run up; writing goes on beside it",
    ),
    "validation_seconds": ("s", "time that the validation after the step took"),
}
LATENCIES: dict[str, tuple[str, str]] = {
    **{
        f"latency_{what}_{q}": ("s", f"{at} quantile, over samples, of {meaning}")
        for what, meaning in {
            "rollout": "the time from a prompt's submission to a finished completion",
            "scoring": "the time from a finished completion to its total reward",
            **{p: f"the time that the {p} part took, retries included" for p in PARTS},
        }.items()
        for q, at in LATENCY_QUANTILES.items()
    },
    "rollout_queue_mean": (
        "samples",
        "completions being generated or waiting for it, averaged over the step",
    ),
    "scoring_queue_mean": (
        "samples",
        "samples being scored or waiting for it, averaged over the step",
    ),
    "scoring_queue_max": ("samples", "most samples being scored or waiting for it at one time"),
}
CACHES: dict[str, tuple[str, str]] = {
    "cache_hit_share": ("share", "reward service items answered from the cache"),
    **{f"cache_hit_share_{k}": ("share", f"{k} items answered from the cache") for k in CACHED},
}
MACHINES: dict[str, tuple[str, str]] = {
    "unsaved_checkpoints": (
        "count",
        "checkpoints that the disk did not take, since the run was started or resumed",
    ),
    **{f"replicas_{s}": ("count", f"running replicas of the {s} service") for s in SERVICES},
    "nodes": ("count", "nodes of the cluster that are alive"),
    "node_cpu_share": ("share", "processor time used on the driver's node, over all its cores"),
    "node_memory_gib": ("GiB", "memory used on the driver's node"),
    "driver_memory_gib": ("GiB", "resident memory of the driver process"),
    "gpu_share": ("share", "mean utilisation of the driver's node's GPUs (nvidia-smi)"),
    "gpu_memory_gib": ("GiB", "memory used on the driver's node's GPUs, summed"),
}
SECTIONS = {
    "Progress": PROGRESS, "Rewards": REWARDS, "Samples": SAMPLES, "Learning": LEARNING, "Times": TIMES,
    "Latencies and queues": LATENCIES, "Caches": CACHES, "Machines": MACHINES,
}  # fmt: skip
METRICS = {name: about for section in SECTIONS.values() for name, about in section.items()}

# What a resumed run need not repeat: times, and what depends on machines or on what caches hold.
UNREPEATED = {*TIMES, *LATENCIES, *CACHES, *MACHINES}

Interval = tuple[float, float]


@dataclass
class StepClock:
    """Event spans of one step. Intervals are (start, end)."""

    start: float
    end: float = 0.0
    learning: list[Interval] = field(default_factory=list)
    swapping: list[Interval] = field(default_factory=list)


def clipped(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """What of each interval lies inside `window`, sorted."""
    inside = ((max(a, window[0]), min(b, window[1])) for a, b in intervals)
    return sorted((a, b) for a, b in inside if a < b)


def union(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """Disjoint, sorted intervals covering the same time inside `window`."""
    merged: list[Interval] = []
    for a, b in clipped(intervals, window):
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


def most_at_once(intervals: Iterable[Interval]) -> int:
    """How many of the intervals have a moment in common, at most. One that ends as another begins
    is not counted.
    """
    changes = sorted((t, change) for a, b in intervals for t, change in ((a, 1), (b, -1)))
    return max(itertools.accumulate((change for _, change in changes), initial=0))


def gaps(intervals: Sequence[Interval], window: Interval) -> list[Interval]:
    """The time of `window` that disjoint sorted `intervals` leave free."""
    edges = [window[0], *[t for interval in intervals for t in interval], window[1]]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def time_metrics(clock: StepClock, groups: Sequence[Group]) -> dict[str, float]:
    """Busy times, queues, the learner's idle time by cause, T* and efficiency of one step."""
    window = (clock.start, clock.end)
    spans = [s.rollout.spans for g in groups for s in g.samples]
    generations = clipped(((s["submitted"], s["generated"]) for s in spans), window)
    scorings = clipped(((s["generated"], s["scored"]) for s in spans), window)
    generating, scoring = union(generations, window), union(scorings, window)
    working = union([*clock.learning, *clock.swapping], window)
    learning = length(union(clock.learning, window))
    idle = gaps(working, window)
    exposed = overlap(idle, union(waits_for_rewards(groups), window))
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
        "rollout_queue_mean": length(generations) / max(wall, 1e-9),
        "scoring_queue_mean": length(scorings) / max(wall, 1e-9),
        "scoring_queue_max": most_at_once(scorings),
    }


def part_names(found: Iterable[str]) -> list[str]:
    """The reward parts among `found` in the order of PARTS, then those of the user's own
    (reward.custom).
    """
    names = dict.fromkeys(found)
    return [name for name in PARTS if name in names] + [name for name in names if name not in PARTS]


def parts_measured(row: Iterable[str]) -> list[str]:
    """The reward parts whose mean is among the names of metrics."""
    found = (
        name.removeprefix("reward_").removesuffix("_mean") for name in row if MEAN.fullmatch(name)
    )
    return part_names(name for name in found if name != "total")


def waits_for_rewards(groups: Sequence[Group]) -> list[Interval]:
    """When nothing but rewards kept the group whose turn it was from the learner, which takes them
    in this order.

    A later group that is generated and unscored keeps nobody waiting while an earlier one is still
    being generated."""
    waits, turn = [], -math.inf
    for spans in ([s.rollout.spans for s in g.samples] for g in groups if g.samples):
        generated, scored = (max(s[name] for s in spans) for name in ("generated", "scored"))
        waits.append((max(generated, turn), scored))
        turn = max(turn, scored)
    return waits


def hit_shares(counters: Mapping[str, int]) -> dict[str, float]:
    """cache_hit_share, over all and per kind, from <kind>_hits and <kind>_misses; only of kinds
    that were asked.
    """
    asked = {k: (counters.get(f"{k}_hits", 0), counters.get(f"{k}_misses", 0)) for k in CACHED}
    asked = {k: (hits, hits + misses) for k, (hits, misses) in asked.items() if hits + misses}
    out = {f"cache_hit_share_{k}": hits / n for k, (hits, n) in asked.items()}
    if asked:
        out["cache_hit_share"] = sum(hits for hits, _ in asked.values()) / sum(
            n for _, n in asked.values()
        )
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
    longest = max(waits, key=lambda name: waits[name])
    return (
        f"step {step}/{steps}  reward {row['reward_total_mean']:.3f}  [{parts}]  {row['tokens_per_s']:.0f} tok/s  "
        f"{row['step_seconds']:.1f} s  waited {waits[longest]:.1f} s for {longest}"
    )
