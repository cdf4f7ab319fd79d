"""Group-relative advantages: how much better a completion did than its siblings. Pure floats, no
tensors.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

EPSILON = 1e-4  # in the denominator, as in TRL and ms-swift
# rewards that differ by no more are equal: cosines and distances carry float noise of about 1e-8
TOLERANCE = 1e-6


def group_advantages(
    totals: Sequence[float | None], epsilon: float = EPSILON, tolerance: float = TOLERANCE
) -> list[float]:
    """(r - mean) / (std + epsilon) over the scored samples of one group, std with ddof=1 (GRPO,
    DeepSeekMath Eq. 4).

    totals: the G total rewards; None marks an unscorable sample, which gets 0.0 and enters neither
    mean nor std. With fewer than two scored samples, or when all scored rewards agree within
    `tolerance`, there is nothing to compare and every advantage is exactly 0.0. Raises ValueError
    for a reward that is not finite."""
    scored = [float(r) for r in totals if r is not None]
    if not all(map(math.isfinite, scored)):
        raise ValueError(f"a reward is not finite: {scored}; a failed reward must be None")
    if len(scored) < 2 or max(scored) - min(scored) <= tolerance:
        return [0.0] * len(totals)
    mean = math.fsum(scored) / len(scored)
    scale = statistics.stdev(scored, mean) + epsilon
    return [0.0 if r is None else (r - mean) / scale for r in totals]
