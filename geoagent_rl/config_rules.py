"""What a configuration's values must satisfy beyond their types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoagent_rl.types import UserError

if TYPE_CHECKING:
    from geoagent_rl.config import Config


def validate(config: Config) -> None:
    """Cross-field rules. Raises UserError naming the key to change."""
    positive = {
        "steps": config.steps,
        "rollout.group_size": config.rollout.group_size,
        "rollout.prompts_per_step": config.rollout.prompts_per_step,
        "rollout.temperature": config.rollout.temperature,
        "rollout.max_tokens": config.rollout.max_tokens,
        "learner.ranks": config.learner.ranks,
        "reward.spatial.tau_km": config.reward.spatial.tau_km,
        "reward.exact_match.scale_km": config.reward.exact_match.scale_km,
        "eval.geoscore_scale_km": config.eval.geoscore_scale_km,
    }
    for key, value in positive.items():
        if value <= 0:
            raise UserError(f"{key} must be greater than 0, not {value}")
    choices = {
        "rollout.swap": (config.rollout.swap, ("adapter", "merged")),
        "learner.loss": (config.learner.loss, ("grpo", "dapo", "dr_grpo")),
        "learner.zero_stage": (config.learner.zero_stage, (0, 2, 3)),
        "policy.dtype": (config.policy.dtype, ("float32", "bfloat16")),
        "reward.spatial.truth": (config.reward.spatial.truth, ("coordinates", "geocoded")),
        "reward.semantic.missing_truth": (config.reward.semantic.missing_truth, ("rescale", "cap")),
        "reward.consistency.against": (config.reward.consistency.against, ("own", "truth")),
        "reward.consistency.agreement": (config.reward.consistency.agreement, ("names", "string")),
        "reward.format.style": (config.reward.format.style, ("full", "tags")),
        "reward.exact_match.style": (config.reward.exact_match.style, ("globe", "gre", "geovista")),
    }
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"{key} must be one of {', '.join(map(str, allowed))}, not {value}")
    if config.rollout.group_size < 2:
        raise UserError("rollout.group_size must be at least 2: advantages are relative to the group")
    if config.max_staleness < 0:
        raise UserError("max_staleness must be 0 or more")
    unknown = set(config.reward.required) - set(vars(config.reward.weights))
    if unknown:
        raise UserError(f"reward.required names unknown parts: {', '.join(sorted(unknown))}")
