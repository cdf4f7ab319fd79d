"""What one batch of groups says: rewards, advantages, failures, lengths, latencies, staleness.

Names, units and meanings are in table.py. May know nothing of Ray.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from geoagent_rl.metrics.table import LATENCY_QUANTILES, QUANTILES
from geoagent_rl.types import Group, ScoredRollout


def sample_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Return rewards, advantages, failures, lengths and latencies of one batch of groups."""
    samples = [s for g in groups for s in g.samples]
    totals = [s.total for s in samples if s.total is not None]
    rollouts = [s.rollout for s in samples]
    lengths = [len(r.completion_ids) for r in rollouts]
    advantages = [a for g in groups for a in g.advantages]
    out = {
        "version": min((r.version for r in rollouts), default=-1),
        "bad_image_share": mean([float(not g.samples and not g.lost) for g in groups]),
        "lost_groups": float(sum(g.lost for g in groups)),
        "reward_total_mean": mean(totals),
        "reward_total_std": deviation(totals),
        **quantiles("reward_total", totals, QUANTILES),
        "advantage_abs_mean": mean([abs(a) for a in advantages]),
        "advantage_std": deviation(advantages),
        "zero_variance_share": mean([float(not any(g.advantages)) for g in groups]),
        "unscorable_share": 1 - len(totals) / max(len(samples), 1),
        "data_failure_share": mean(
            [float(any(o.kind == "data" for o in s.parts.values())) for s in samples]
        ),
        "truncated_share": mean([float(r.finish_reason == "length") for r in rollouts]),
        "completion_tokens_mean": mean(lengths),
        **quantiles("completion_tokens", lengths, {"q90": 0.9}),
        "completion_tokens_max": max(lengths, default=0),
        "prompt_tokens_mean": mean([len(r.prompt_ids) for r in rollouts]),
    }
    for part in dict.fromkeys(name for s in samples for name in s.parts):
        out |= part_metrics(part, samples)
    spans = [r.spans for r in rollouts]
    times = {"rollout": ("submitted", "generated"), "scoring": ("generated", "scored")}
    for what, (start, end) in times.items():
        out |= quantiles(f"latency_{what}", [s[end] - s[start] for s in spans], LATENCY_QUANTILES)
    return out


def part_metrics(part: str, samples: Sequence[ScoredRollout]) -> dict[str, float]:
    """Return the metrics of one reward part; {} where no sample has it. Shares are over the samples
    that have it."""
    outcomes = [s.parts[part] for s in samples if part in s.parts]
    if not outcomes:
        return {}
    known = [o.score for o in outcomes if o.score is not None]
    out = {f"{kind}_share_{part}": mean([float(o.kind == of) for o in outcomes])
           for kind, of in (("unscorable", "infra"), ("data_failure", "data"))}  # fmt: skip
    if known:
        out |= {f"reward_{part}_mean": mean(known), f"reward_{part}_std": deviation(known)}
        out |= quantiles(f"reward_{part}", known, QUANTILES)
    seconds = [o.details["seconds"] for o in outcomes if "seconds" in o.details]
    return out | quantiles(f"latency_{part}", seconds, LATENCY_QUANTILES)


def staleness_metrics(groups: Sequence[Group], trained: int) -> dict[str, float]:
    """Return how many versions behind `trained`, the one that the gradient was taken of, the
    samples' own were."""
    behind = [trained - s.rollout.version for g in groups for s in g.samples]
    return {"staleness_mean": mean(behind), "staleness_max": max(behind, default=0)}


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else float("nan")


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (ddof 1); 0 for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def quantiles(name: str, values: Sequence[float], which: Mapping[str, float]) -> dict[str, float]:
    """Return {name_q50: value, ...}, linear between the values; {} without any."""
    if not values:
        return {}
    found = np.quantile(np.asarray(values, dtype=float), list(which.values()))
    return {f"{name}_{q}": float(value) for q, value in zip(which, found, strict=True)}
