"""What a configuration's values must satisfy beyond their types; `config.load` applies it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from geoagent_rl.types import UserError

if TYPE_CHECKING:
    from geoagent_rl.config import Config

LORA_RANKS = (
    8,
    16,
    32,
    64,
    128,
    256,
    320,
    512,
)  # vLLM makes room for these; adapters may be smaller


def validate(config: Config) -> None:
    """Raises UserError, in one line that names the key to change, for the first rule that is
    broken.
    """
    check_ranges(config)
    check_replicas(config)
    check_choices(config)
    check_learning(config)
    check_gpus(config)
    check_secrets(config)
    check_wandb(config)
    if config.rollout.group_size < 2:
        raise UserError(
            "rollout.group_size must be at least 2: advantages are relative to the group"
        )
    if config.rollout.max_tokens >= config.rollout.max_model_len:
        raise UserError(
            f"rollout.max_tokens ({config.rollout.max_tokens}) leaves no room for a prompt in rollout.max_model_len "
            f"({config.rollout.max_model_len})"
        )
    if config.eval.completions > 1 and config.eval.temperature <= 0:
        raise UserError(
            "eval.completions above 1 are all alike at eval.temperature 0; set eval.temperature=0.7 or so"
        )
    if config.rollout.dynamic_sampling and config.rollout.max_refills < 1:
        raise UserError("rollout.dynamic_sampling needs rollout.max_refills of at least 1")
    if config.run.validate_every and not config.data.eval_manifest:
        raise UserError("run.validate_every needs pictures to validate on: set data.eval_manifest")
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
        "run.validate_samples": config.run.validate_samples,
        "policy.lora_rank": config.policy.lora_rank,
        "rollout.engines": config.rollout.engines,
        "rollout.group_size": config.rollout.group_size,
        "rollout.prompts_per_step": config.rollout.prompts_per_step,
        "rollout.temperature": config.rollout.temperature,
        "rollout.max_tokens": config.rollout.max_tokens,
        "rollout.cpus_per_engine": config.rollout.cpus_per_engine,
        "learner.ranks": config.learner.ranks,
        "learner.cpus_per_rank": config.learner.cpus_per_rank,
        "learner.micro_batch_tokens": config.learner.micro_batch_tokens,
        "learner.clip_high": config.learner.clip_high,
        "learner.overlong_buffer": config.learner.overlong_buffer,
        "reward.spatial.tau_km": config.reward.spatial.tau_km,
        "reward.exact_match.scale_km": config.reward.exact_match.scale_km,
        "eval.completions": config.eval.completions,
        "eval.geoscore_scale_km": config.eval.geoscore_scale_km,
    }
    for key, value in positive.items():
        if value <= 0:
            raise UserError(f"{key} must be greater than 0, not {value}")
    natural = {
        "max_staleness": config.max_staleness,
        "run.validate_every": config.run.validate_every,
        "placement.wait_s": config.placement.wait_s,
        "rollout.max_refills": config.rollout.max_refills,
        "rollout.max_restarts": config.rollout.max_restarts,
        "learner.max_restarts": config.learner.max_restarts,
        "learner.clip_low": config.learner.clip_low,
        "learner.skip_grad_norm": config.learner.skip_grad_norm,
        "learner.kl_beta": config.learner.kl_beta,
        "learner.overlong_penalty": config.learner.overlong_penalty,
    }
    for key, value in natural.items():
        if value < 0:
            raise UserError(f"{key} must be 0 or more, not {value}")


def check_replicas(config: Config) -> None:
    for key, c in {"reward.geocoder": config.reward.geocoder, "judge": config.judge}.items():
        if c.replicas < 1 or c.min_replicas < 1:
            raise UserError(
                f"{key}.replicas and {key}.min_replicas must be at least 1: nothing is scored without"
            )
        if c.max_replicas and not c.min_replicas <= c.replicas <= c.max_replicas:
            raise UserError(
                f"{key}.min_replicas ({c.min_replicas}) <= {key}.replicas ({c.replicas}) <= {key}.max_replicas "
                f"({c.max_replicas}) must hold; max_replicas=0 switches scaling by load off"
            )
        if c.target_ongoing <= 0 or c.idle_s < 0:
            raise UserError(
                f"{key}.target_ongoing must be greater than 0 and {key}.idle_s not negative"
            )


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

    There is no rule for top-p or top-k, which would make the sampler's log-probabilities useless in
    ratios and weights (they would be those of another, truncated distribution): the engine offers
    neither."""
    c = config.learner
    if config.policy.dtype == "bfloat16" and c.zero_stage == 0:
        raise UserError(
            "policy.dtype=bfloat16 needs learner.zero_stage 2 or 3 (its master weights are float32)"
        )
    if config.rollout.swap == "adapter" and config.policy.lora_rank > LORA_RANKS[-1]:
        raise UserError(
            f"policy.lora_rank={config.policy.lora_rank} is more than an engine serves as an adapter "
            f"({LORA_RANKS[-1]}): lower it, or set rollout.swap=merged"
        )
    if c.clip_low >= 1:
        raise UserError(
            f"learner.clip_low must be below 1, not {c.clip_low}: ratios are never negative"
        )
    if c.overlong_buffer > 1:
        raise UserError(
            f"learner.overlong_buffer is a share of rollout.max_tokens: at most 1, not {c.overlong_buffer}"
        )
    if c.importance != "none" and c.ratio_cap < 1:
        raise UserError(
            f"learner.ratio_cap must be at least 1 with learner.importance, not {c.ratio_cap}"
        )
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


def check_gpus(config: Config) -> None:
    """GPUs that an engine asks for and its tensor-parallel degree; who may share a GPU, and how
    much of it.
    """
    rollout, judge, placement = config.rollout, config.judge, config.placement
    for name, section, gpus, key in (
        ("rollout", rollout, rollout.gpus_per_engine, "gpus_per_engine"),
        ("judge", judge, judge.gpus_per_replica, "gpus_per_replica"),
    ):
        if gpus > 0 and section.tensor_parallel != max(1, gpus):
            raise UserError(
                f"{name}.{key}={gpus:g} and {name}.tensor_parallel={section.tensor_parallel} do not go together: an "
                "engine uses as many GPUs as its tensor-parallel degree, or a share of one"
            )
        if 0 < gpus < 1 and section.memory > gpus and not placement.colocate:
            raise UserError(
                f"{name}.memory={section.memory:g} is more than the engine's share of a GPU ({name}.{key}={gpus:g}): "
                f"others have the rest; lower {name}.memory"
            )
    if not placement.colocate:
        return
    together = rollout.gpus_per_engine + config.learner.gpus_per_rank
    if rollout.engines != 1 or config.learner.ranks != 1 or not 0 < together <= 1:
        raise UserError(
            "placement.colocate puts one engine and one learner rank on one GPU: it needs rollout.engines=1, "
            "learner.ranks=1, and rollout.gpus_per_engine + learner.gpus_per_rank above 0 and at most 1"
        )
    if config.max_staleness > 0:
        raise UserError(
            "placement.colocate needs max_staleness=0: nothing is generated while the engine sleeps"
        )


def check_secrets(config: Config) -> None:
    """No secret in the configuration (it is written to run directories), no plain text to other
    machines.
    """
    if not all(
        re.fullmatch(r"[A-Z_][A-Z0-9_]*", name)
        for name in config.reward.geocoder.opencage.api_key_env
    ):
        raise UserError(
            "reward.geocoder.opencage.api_key_env holds names of environment variables, in upper case, not keys: put "
            "the key into OPENCAGE_API_KEY or a file that OPENCAGE_API_KEY_FILE names"
        )
    try:
        url = urlsplit(config.reward.cache.url)
    except ValueError as error:
        raise UserError(f"reward.cache.url is no address: {error}") from None
    if config.reward.cache.url not in ("embedded", "off") and url.scheme not in (
        "redis",
        "rediss",
        "unix",
    ):
        raise UserError(
            f"reward.cache.url={config.reward.cache.url} is no address of a Redis server; write embedded, off, "
            "redis://HOST:6379/0 or rediss://HOST:6380/0"
        )
    if url.password or url.username:
        raise UserError(
            "reward.cache.url must not contain a password: put it into REDIS_PASSWORD or into a file that "
            "REDIS_PASSWORD_FILE names, on every node"
        )
    if (
        url.scheme == "redis"
        and config.reward.cache.tls
        and url.hostname not in ("localhost", "127.0.0.1", "::1")
    ):
        raise UserError(
            f"reward.cache.url: redis:// to {url.hostname} is not encrypted; use rediss://, or set "
            "reward.cache.tls=false where the network is yours alone"
        )


def check_wandb(config: Config) -> None:
    """Found out at once, not after minutes of starting engines."""
    if not config.run.wandb:
        return
    found = find_spec("wandb")
    if found is None or found.origin is None:  # no origin: some folder named wandb
        raise UserError(
            f"run.wandb={config.run.wandb} needs Weights & Biases, which is not installed: pip install wandb, or leave "
            "run.wandb empty"
        )
