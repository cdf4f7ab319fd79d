"""Sections of the configuration: rollout engines and learner (Step III, GRPO)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from geoagent_rl.config.values import (
    RULES,
    Count,
    Decay,
    Natural,
    NotNegative,
    Positive,
    PositiveShare,
    ShareBelowOne,
    key,
    whole,
)

AdvantageKind = Literal["group", "none", "batch", "gdpo"]


@dataclass(config=RULES)
class RolloutConfig:
    """The vLLM engines that sample completions."""

    engines: Count = key(1, "vLLM engines, each an actor.")
    tensor_parallel: Count = key(1, "GPUs that share one model.", "GPUs")
    gpus_per_engine: NotNegative = key(
        0.0,
        "GPUs that an engine asks Ray for. 0: CPU. With placement.colocate: its share of each of "
        "its GPUs.",
        "GPUs",
    )
    cpus_per_engine: Positive = key(1.0, "CPUs that an engine asks Ray for.", "CPUs")
    group_size: Annotated[int, Field(ge=2)] = key(
        8, "Completions of one prompt (G). Advantages are relative to the group."
    )
    prompts_per_step: Count = key(8, "Groups of an optimizer step.")
    temperature: Positive = key(
        0.7, "The sampling temperature. The learner's log-probabilities are at it too."
    )
    top_p: PositiveShare = key(
        1.0, "Tokens are drawn from the likeliest that make up this probability. On-policy only."
    )
    top_k: Natural = key(
        0, "Tokens are drawn from the likeliest this many. On-policy only. 0: from all.", "tokens"
    )
    max_tokens: Count = key(1024, "Longer completions are cut off here.", "tokens")
    dynamic_sampling: bool = key(
        False, "Groups whose advantages are all 0 are replaced: see grpo/sampling.py."
    )
    max_refills: Natural = key(
        16,
        "Further prompts that one step may take. After them it trains on what it has.",
        "prompts",
    )
    max_num_seqs: Natural = key(
        0,
        "Completions that one engine generates at once. 0: as many of full length as its cache "
        "holds, each group with one prompt, and at most 256.",
    )
    max_model_len: Count = key(
        4096, "Tokens of prompt (image included) and completion together.", "tokens"
    )
    memory: Positive = key(
        0.7, "The share of GPU memory that the engine takes, or GiB of KV cache on a CPU."
    )
    swap: Literal["adapter", "merged"] = key(
        "adapter",
        "How engines take a new adapter: beside the base, or merged into it, which costs nothing per "
        "token and waits for the completions under way.",
    )
    timeout_s: Positive = key(600.0, "A group that takes longer counts as a failure.", "s")
    max_restarts: Natural = key(
        5,
        "Restarts of each engine that dies, within any hour. After them the others go on "
        "without it.",
    )


def truncates(c: RolloutConfig) -> bool:
    """Say whether engines sample from less than the policy's whole distribution."""
    return c.top_p < 1 or c.top_k > 0


@dataclass(config=RULES)
class LearnerConfig:
    """The learner of GRPO: its processes, optimizer and loss."""

    ranks: Count = key(1, "Learner processes, one GPU each.")
    gpus_per_rank: NotNegative = key(0.0, "GPUs that a rank asks Ray for. 0: CPU.", "GPUs")
    cpus_per_rank: Positive = key(
        1.0, "CPUs that a rank asks Ray for. Without GPUs also its threads.", "CPUs"
    )
    zero_stage: Annotated[Literal[0, 1, 2, 3], BeforeValidator(whole)] = key(
        0, "The ZeRO stage of DeepSpeed: see docs/learner.md."
    )
    lr: Positive = key(1e-5, "The highest learning rate.")
    warmup_steps: NotNegative = key(
        0.01, "Steps of linear warm-up. Below 1: a share of all steps.", "steps"
    )
    lr_end: NotNegative = key(1.0, "The last step's learning rate as a share of lr.")
    lr_decay: Decay = key("linear", "How the learning rate goes from lr to its end.")
    betas: tuple[ShareBelowOne, ShareBelowOne] = key((0.9, 0.999), "The betas of AdamW.")
    weight_decay: NotNegative = key(0.0, "The weight decay of AdamW.")
    max_grad_norm: Positive = key(1.0, "Gradients with a larger norm are scaled down to it.")
    skip_grad_norm: NotNegative = key(
        0.0,
        "A step whose norm before scaling is above this is skipped and counted. 0: none is.",
    )
    advantage: AdvantageKind = key(
        "group",
        "How advantages are scaled: by the group's standard deviation, not at all, by the batch's, "
        "or each part by itself (gdpo): see grpo/advantages.py.",
    )
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = key(
        "grpo", "How the loss is averaged: see grpo/loss.py."
    )
    ratio: Literal["token", "sequence"] = key(
        "token", "Ratios are per token, or per sequence (GSPO)."
    )
    clip_low: ShareBelowOne = key(0.2, "Ratios are clipped to 1 - clip_low .. 1 + clip_high.")
    clip_high: Positive = key(0.2, "The upper side of that range.")
    importance: Literal["none", "token", "sequence"] = key(
        "none",
        "none: the ratio of stale samples (max_staleness > 0) is against the sampler's "
        "log-probabilities, clipped and then truncated at ratio_cap. token or sequence: the ratio "
        "is 1, and truncated weights against the sampler's log-probabilities multiply the loss at "
        "every staleness (at 0 they correct what engine and learner differ by).",
    )
    ratio_cap: Positive = key(
        2.0, "Importance weights and ratios of stale samples are truncated here."
    )
    overlong: Literal["keep", "mask", "penalty"] = key(
        "keep", "What is done with completions at the length limit: see grpo/overlong.py."
    )
    overlong_buffer: PositiveShare = key(
        0.2, "The penalty grows over this share of rollout.max_tokens."
    )
    overlong_penalty: NotNegative = key(1.0, "The penalty at the limit, in units of reward.")
    kl_beta: NotNegative = key(
        0.001,
        "The weight of the KL penalty against the starting checkpoint. 0: no reference pass.",
    )
    micro_batch_tokens: Count = key(
        8192,
        "Tokens of one forward pass, padding included. Lower it when memory is short.",
        "tokens",
    )
    share_prompts: bool = key(
        True, "Completions of one prompt stand behind one copy of it: see policy/rows.py."
    )
    timeout_s: Positive = key(600.0, "A learner that takes longer for a call counts as lost.", "s")
    max_restarts: Natural = key(
        5,
        "Restarts of a learner that dies, within any hour. Each goes back to the newest "
        "checkpoint.",
    )
