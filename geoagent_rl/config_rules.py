"""What a configuration's values must satisfy beyond their types; `config.load` applies it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoagent_rl.types import UserError

if TYPE_CHECKING:
    from geoagent_rl.config import Config


def validate(config: Config) -> None:
    """Raises UserError, in one line that names the key to change, for the first rule that is broken."""
    check_ranges(config)
    check_choices(config)
    check_learning(config)
    if config.rollout.group_size < 2:
        raise UserError("rollout.group_size must be at least 2: advantages are relative to the group")
    if config.rollout.max_tokens >= config.rollout.max_model_len:
        raise UserError(
            f"rollout.max_tokens ({config.rollout.max_tokens}) leaves no room for a prompt in rollout.max_model_len "
            f"({config.rollout.max_model_len})"
        )
    if config.rollout.dynamic_sampling and config.rollout.max_refills < 1:
        raise UserError("rollout.dynamic_sampling needs rollout.max_refills of at least 1")
    built_in = set(vars(config.reward.weights))
    for name in config.reward.custom:
        if name in built_in or not name.isidentifier():
            raise UserError(f"reward.custom.{name}: give it another name, of letters, digits and _")
    unknown = set(config.reward.required) - built_in - set(config.reward.custom)
    if unknown:
        raise UserError(f"reward.required names unknown parts: {', '.join(sorted(unknown))}")


def check_ranges(config: Config) -> None:
    positive = {
        "steps": config.steps,
        "run.keep_checkpoints": config.run.keep_checkpoints,
        "run.save_every": config.run.save_every,
        "policy.lora_rank": config.policy.lora_rank,
        "rollout.engines": config.rollout.engines,
        "rollout.group_size": config.rollout.group_size,
        "rollout.prompts_per_step": config.rollout.prompts_per_step,
        "rollout.temperature": config.rollout.temperature,
        "rollout.max_tokens": config.rollout.max_tokens,
        "learner.ranks": config.learner.ranks,
        "learner.micro_batch_tokens": config.learner.micro_batch_tokens,
        "learner.clip_high": config.learner.clip_high,
        "learner.overlong_buffer": config.learner.overlong_buffer,
        "reward.spatial.tau_km": config.reward.spatial.tau_km,
        "reward.exact_match.scale_km": config.reward.exact_match.scale_km,
        "eval.geoscore_scale_km": config.eval.geoscore_scale_km,
    }
    for key, value in positive.items():
        if value <= 0:
            raise UserError(f"{key} must be greater than 0, not {value}")
    natural = {
        "max_staleness": config.max_staleness,
        "rollout.max_refills": config.rollout.max_refills,
        "learner.clip_low": config.learner.clip_low,
        "learner.kl_beta": config.learner.kl_beta,
        "learner.overlong_penalty": config.learner.overlong_penalty,
    }
    for key, value in natural.items():
        if value < 0:
            raise UserError(f"{key} must be 0 or more, not {value}")


def check_choices(config: Config) -> None:
    learner = config.learner
    choices = {
        "rollout.swap": (config.rollout.swap, ("adapter", "merged")),
        "learner.loss": (learner.loss, ("grpo", "dapo", "dr_grpo", "bnpo")),
        "learner.ratio": (learner.ratio, ("token", "sequence")),
        "learner.importance": (learner.importance, ("none", "token", "sequence")),
        "learner.overlong": (learner.overlong, ("keep", "mask", "penalty")),
        "learner.zero_stage": (learner.zero_stage, (0, 2, 3)),
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


def check_learning(config: Config) -> None:
    """Settings of the learner that are each sensible and together wrong.

    There is no rule for top-p or top-k, which would make the sampler's log-probabilities useless in ratios and weights
    (they would be those of another, truncated distribution): the engine offers neither.
    """
    c = config.learner
    if config.policy.dtype == "bfloat16" and c.zero_stage == 0:
        raise UserError("policy.dtype=bfloat16 needs learner.zero_stage 2 or 3 (its master weights are float32)")
    if c.clip_low >= 1:
        raise UserError(f"learner.clip_low must be below 1, not {c.clip_low}: ratios are never negative")
    if c.overlong_buffer > 1:
        raise UserError(f"learner.overlong_buffer is a share of rollout.max_tokens: at most 1, not {c.overlong_buffer}")
    if c.importance != "none" and c.ratio_cap < 1:
        raise UserError(f"learner.ratio_cap must be at least 1 with learner.importance, not {c.ratio_cap}")
    if config.max_staleness > 0 and c.importance == "none" and c.ratio_cap < 1 + c.clip_high:
        raise UserError(
            f"learner.ratio_cap ({c.ratio_cap}) must not be below 1 + learner.clip_high ({1 + c.clip_high}): it would "
            "truncate ratios that the clip lets pass"
        )
    if config.max_staleness > 0 and c.importance != "none" and c.ratio == "sequence":
        raise UserError(
            "learner.ratio=sequence does nothing with learner.importance (the ratio is 1): set learner.importance=none "
            "for GSPO on stale samples"
        )
