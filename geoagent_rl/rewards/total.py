"""The total reward: the weighted sum of its parts (paper Eq. 2-3; with the default weights the
maximum is 3.5).

Outcome algebra. A required part that is an infra failure makes the total None: the sample is
unscorable, it is left out and never counted as a low score. A part that is *not* required and fails
is left out, and the others are rescaled to the full sum of weights: leaving it out alone would
lower the sample against the others of its group, so that an outage would look like a bad answer.
A part that is left out because the truth says nothing that it could judge is treated the same way,
required or not: that holds for every sample of the prompt alike.
Parts with weight 0 are neither asked nor counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.types import Outcome


def part_weights(config: RewardConfig) -> dict[str, float]:
    """Return the parts in play (weight not 0), in the configuration's order."""
    weights = vars(config.weights) | {name: own.weight for name, own in config.custom.items()}
    return {name: weight for name, weight in weights.items() if weight != 0}


def total(parts: Mapping[str, Outcome], config: RewardConfig) -> float | None:
    """Return the weighted sum; None: unscorable. Raises KeyError when a part in play is missing:
    nothing is scored by accident."""
    weights = part_weights(config)
    scores = {name: parts[name].score for name in weights}
    known = {name: score for name, score in scores.items() if score is not None}
    missing = set(weights) - set(known)
    failed = {name for name in missing if parts[name].kind != "left_out"}
    if failed & set(config.required) or not known:
        return None
    score = sum(weights[name] * value for name, value in known.items())
    if not missing:
        return score
    remaining = sum(weights[name] for name in known)
    return score * sum(weights.values()) / remaining if remaining else None
