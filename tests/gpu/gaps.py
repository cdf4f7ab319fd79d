"""How far two sets of completions, or their log-probabilities, lie apart."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from geoagent_rl.types import Rollout


def gaps(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return how log-probabilities of the same completions differ, in nats.

    bias: how much larger `found` is on average."""
    signed = [
        a - b for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True)
    ] or [math.nan]
    sizes, n = sorted(map(abs, signed)), len(signed)
    return {
        "mean": sum(sizes) / n,
        "p99": sizes[int(0.99 * (n - 1))],
        "max": sizes[-1],
        "bias": sum(signed) / n,
        "tokens": n,
    }


def compare(found: Sequence[Rollout], expected: Sequence[Rollout]) -> dict[str, Any]:
    """Compare two generations from the same seeds.

    same: the share of equal completions; part_at: the first token at which a pair differs; gap: of
    the tokens before."""
    pairs = [(a.completion_ids, b.completion_ids) for a, b in zip(found, expected, strict=True)]
    ends = [len(os.path.commonprefix(pair)) for pair in pairs]
    before = [
        [r.logprobs[:n] for r, n in zip(side, ends, strict=True)] for side in (found, expected)
    ]
    same = sum(a == b for a, b in pairs) / len(pairs)
    return {"same": same, "part_at": min(ends), "gap": gaps(*before)}
