"""Intervals by resampling photographs: of one system's figures, and of paired differences between
two.

Percentile bootstrap over rows. Two systems are compared on the same photographs and in the same
resamples, so what makes a photograph hard for both does not widen the interval of their difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 2000
AT_ONCE = 2_000_000  # gathered values, so that memory stays flat


@dataclass(frozen=True, slots=True)
class Interval:
    """`low`..`high` holds 95 % of the resampled means."""

    mean: float
    low: float
    high: float


def resampled_means(
    values: NDArray[np.float64], rounds: int = ROUNDS, seed: int = 0
) -> NDArray[np.float64]:
    """Return (rounds, k) means of n resampled rows of `values` (n, k), n at least 1."""
    n, k = values.shape
    rng, out = np.random.default_rng(seed), np.empty((rounds, k))
    step = max(1, AT_ONCE // (n * k))
    for start in range(0, rounds, step):
        rows = rng.integers(0, n, (min(step, rounds - start), n))
        out[start : start + step] = values[rows].mean(axis=1)
    return out


def intervals(values: NDArray[np.float64], rounds: int = ROUNDS, seed: int = 0) -> list[Interval]:
    """One per column of `values` (n, k)."""
    if not len(values):
        return [Interval(0.0, 0.0, 0.0)] * values.shape[1]
    low, high = np.percentile(resampled_means(values, rounds, seed), (2.5, 97.5), axis=0)
    return [Interval(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]


def paired(
    a: NDArray[np.float64], b: NDArray[np.float64], rounds: int = ROUNDS, seed: int = 0
) -> list[tuple[Interval, float]]:
    """(interval of the mean of b - a, two-sided p) per column; rows of a and b are of the same
    photographs.

    p: twice the share of resampled differences on the other side of 0 (ties count half), at least 1
    / rounds."""
    difference = b - a
    if not len(difference):
        return [(Interval(0.0, 0.0, 0.0), 1.0)] * difference.shape[1]
    resampled = resampled_means(difference, rounds, seed)
    low, high = np.percentile(resampled, (2.5, 97.5), axis=0)
    below = (resampled < 0).mean(axis=0) + (resampled == 0).mean(axis=0) / 2
    p = np.clip(2 * np.minimum(below, 1 - below), 1 / rounds, 1.0)
    rows = zip(difference.mean(axis=0), low, high, p, strict=True)
    return [
        (Interval(float(mean), float(lo), float(hi)), float(chance))
        for mean, lo, hi, chance in rows
    ]
