"""Intervals of one system's figures, and of paired differences between two.

Shares have Wilson's interval, which holds for 0 of 36 too; other means a bias-corrected and
accelerated bootstrap over rows (Efron 1987), differences a percentile bootstrap. scipy.stats has
the first two, and tests compare with it; importing it takes as long as the rest of `eval score`,
and its jackknife grows with the square of the rows, where a mean needs their skew alone.
Two systems are compared on the same photographs and in the same resamples, so what makes a
photograph hard for both does not widen the interval of their difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ROUNDS = 2000
NORMAL = NormalDist()
Z = NORMAL.inv_cdf(0.975)
AT_ONCE = 2_000_000  # gathered values, so that memory stays flat


@dataclass(frozen=True, slots=True)
class Interval:
    """`low`..`high` holds the mean with 95 % confidence."""

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
    """Return an interval for each column of `values` (n, k)."""
    if not len(values):
        return [Interval(0.0, 0.0, 0.0)] * values.shape[1]
    means = resampled_means(values, rounds, seed)
    return [
        wilson(column) if np.isin(column, (0.0, 1.0)).all() else _accelerated(column, resampled)
        for column, resampled in zip(values.T, means.T, strict=True)
    ]


def wilson(hits: NDArray[np.float64]) -> Interval:
    """Return the interval of a share of n values that are 0 or 1 (Wilson 1927)."""
    n, share = len(hits), float(hits.mean())
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def _accelerated(values: NDArray[np.float64], resampled: NDArray[np.float64]) -> Interval:
    """BCa: quantiles of the resampled means, moved by their bias and by the skew of the values."""
    mean, off = float(values.mean()), values - values.mean()
    spread = float((off**2).sum())
    if spread == 0:
        return Interval(mean, mean, mean)
    below = (resampled < mean).mean() + (resampled == mean).mean() / 2
    bias = NORMAL.inv_cdf(min(max(float(below), 1e-6), 1 - 1e-6))
    skew = float((off**3).sum()) / (6 * spread**1.5)
    levels = []
    for z in (-Z, Z):
        shifted = bias + (bias + z) / (1 - skew * (bias + z))
        levels.append(100 * NORMAL.cdf(shifted))
    low, high = np.percentile(resampled, levels)
    return Interval(mean, float(low), float(high))


def paired(
    a: NDArray[np.float64], b: NDArray[np.float64], rounds: int = ROUNDS, seed: int = 0
) -> list[tuple[Interval, float]]:
    """Return (interval of the mean of b - a, two-sided p) per column; rows of a and b are of the
    same photographs.

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
