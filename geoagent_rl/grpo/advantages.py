"""Group-relative advantages: how much better a completion did than its siblings.

Four ways to scale them (learner.advantage), each compared with TRL in tests/oracle:

- group: (r - mean) / (std + 1e-4) within the group (GRPO, DeepSeekMath Eq. 4; the paper).
- none: r - mean (Dr. GRPO; Geobench, geospot).
- batch: (r - mean of the group) / (std over the batch + 1e-4) (TRL, scale_rewards=batch).
- gdpo: each reward part is normalised within the group, the weighted sum of the parts over the
  batch (GDPO, arXiv 2601.05242), so that a part with a small spread is not drowned by a large one.

std has ddof 1. batch and gdpo are finished by `over_batch` once all groups of a step are there.
Pure floats, no tensors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from geoagent_rl.config.grpo import AdvantageKind

EPSILON = 1e-4  # in the denominator, as in TRL and ms-swift
# rewards that differ by no more are equal: cosines and distances carry float noise of about 1e-8
TOLERANCE = 1e-6


def group_advantages(totals: Sequence[float | None], scaled: bool = True) -> list[float]:
    """Return (r - mean) / (std + 1e-4) over the scored samples of one group; unscaled, r - mean.

    totals: the G total rewards; None marks an unscorable sample, which gets 0.0 and enters neither
    mean nor std. With fewer than two scored samples, or when all scored rewards agree within 1e-6,
    there is nothing to compare and every advantage is exactly 0.0. Raises ValueError for a reward
    that is not finite.

    >>> group_advantages([1.0, None, 3.0], scaled=False)
    [-1.0, 0.0, 1.0]
    """
    scored = finite(totals)
    if not differ(scored):
        return [0.0] * len(totals)
    mean = math.fsum(scored) / len(scored)
    scale = statistics.stdev(scored, mean) + EPSILON if scaled else 1.0
    return [0.0 if r is None else (r - mean) / scale for r in totals]


def part_advantages(
    parts: Sequence[Mapping[str, float | None] | None], weights: Mapping[str, float]
) -> list[float]:
    """Return the weighted sum of each part's advantage within the group (GDPO's first step).

    parts: per sample its scores by part; None marks an unscorable sample (0.0). A part that failed
    (None) tells nothing of its sample and adds 0.0, the mean of the others.
    """
    sums = [0.0] * len(parts)
    for name, weight in weights.items():
        scores = [None if sample is None else sample[name] for sample in parts]
        for i, advantage in enumerate(group_advantages(scores)):
            sums[i] += weight * advantage
    return sums


def over_batch(
    kind: AdvantageKind,
    advantages: Sequence[Sequence[float]],
    totals: Sequence[Sequence[float | None]],
) -> list[list[float]]:
    """Return the advantages of a step's groups, scaled over all of them where `kind` asks for it.

    advantages: by group, from group_advantages(scaled=False) for batch and part_advantages for
    gdpo; totals: alike, None for unscorable samples, which stay at 0.0.
    """
    if kind not in ("batch", "gdpo"):
        return [list(group) for group in advantages]
    known = [
        [None if total is None else a for a, total in zip(group, rewards, strict=True)]
        for group, rewards in zip(advantages, totals, strict=True)
    ]
    measured = totals if kind == "batch" else known
    values = finite([value for group in measured for value in group])
    if not differ(values):
        return [[0.0] * len(group) for group in advantages]
    mean = math.fsum(values) / len(values)
    scale = statistics.stdev(values, mean) + EPSILON
    middle = mean if kind == "gdpo" else 0.0
    return [[0.0 if a is None else (a - middle) / scale for a in group] for group in known]


def finite(values: Sequence[float | None]) -> list[float]:
    """Return the values that are there. Raises ValueError for one that is not finite."""
    there = [float(value) for value in values if value is not None]
    if not all(map(math.isfinite, there)):
        raise ValueError(f"a reward is not finite: {there}; a failed reward must be None")
    return there


def differ(values: Sequence[float]) -> bool:
    """Return whether there are two values that differ by more than float noise."""
    return len(values) >= 2 and max(values) - min(values) > TOLERANCE
