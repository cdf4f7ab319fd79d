"""The GRPO objective as plain functions on tensors, made for streaming: a micro-batch yields an un-normalised sum.

A step's loss is  (sum over micro-batches of `unnormalised_loss`) / `normaliser(totals of the step)`.  Since the
normaliser is applied once, to the accumulated gradient, the step is the same for every split into micro-batches and
every number of ranks, also when it becomes known only at the end how many samples could be scored.

Shapes: B sequences padded to T completion tokens; `mask` is 1.0 for tokens that count (the end token included) and
0.0 for padding and for samples that could not be scored. May know nothing of models or DeepSpeed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_surrogate(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_low: float,
    clip_high: float,
    ratio_cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Per-token PPO loss -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), r = exp(logprobs - old_logprobs).

    logprobs, old_logprobs: [B, T]; advantages: [B]. clip_high > clip_low is DAPO's clip-higher. `ratio_cap` truncates
    r (the importance weight of a stale sample) before the minimum, so that a token with A < 0 cannot weigh without
    bound. Returns the loss [B, T] and 1.0 where the clip is active (it decides the minimum), [B, T].
    """
    ratio = torch.exp(logprobs - old_logprobs)
    gain = advantages.unsqueeze(-1)
    clipped = torch.clamp(ratio, 1 - clip_low, 1 + clip_high)
    active = ((ratio < 1 - clip_low) & (gain < 0)) | ((ratio > 1 + clip_high) & (gain > 0))
    if ratio_cap is not None:
        ratio = torch.clamp(ratio, max=ratio_cap)
    return -torch.min(ratio * gain, clipped * gain), active.to(logprobs.dtype)


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token k3 estimate of KL(policy || reference), exp(d) - d - 1 with d = ref - policy; never negative."""
    difference = ref_logprobs - logprobs
    return torch.exp(difference) - difference - 1


def policy_losses(
    logprobs: Tensor,
    advantages: Tensor,
    *,
    old_logprobs: Tensor | None,
    ref_logprobs: Tensor | None,
    clip_low: float,
    clip_high: float,
    ratio_cap: float,
    kl_beta: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The GRPO loss of each token, [B, T], and {"clipped": 0/1, "kl": nats} of each token.

    old_logprobs: None on-policy, where they are the detached current ones, so that the ratio is exactly 1; otherwise
    the sampler's at the behaviour version, with the ratio truncated at `ratio_cap`. ref_logprobs: None without KL.
    """
    on_policy = old_logprobs is None
    old = logprobs.detach() if on_policy else old_logprobs
    losses, clipped = clipped_surrogate(
        logprobs, old, advantages, clip_low, clip_high, None if on_policy else ratio_cap
    )
    found = {"clipped": clipped}
    if ref_logprobs is not None:
        found["kl"] = k3(logprobs, ref_logprobs)
        losses = losses + kl_beta * found["kl"]
    return losses, found


def unnormalised_loss(token_losses: Tensor, mask: Tensor, kind: str) -> Tensor:
    """The micro-batch's share of the step's loss before division by `normaliser`; a scalar.

    "grpo" sums token means of sequences (the paper); "dapo" and "dr_grpo" sum tokens.
    """
    masked = (token_losses * mask).sum(-1)
    if kind == "grpo":
        return (masked / mask.sum(-1).clamp(min=1.0)).sum()
    if kind in ("dapo", "dr_grpo"):
        return masked.sum()
    raise ValueError(f"unknown loss {kind!r}: grpo, dapo or dr_grpo")


def normaliser(kind: str, sequences: float, tokens: float, max_tokens: int) -> float:
    """What the step's summed loss is divided by, from totals over the whole step (all micro-batches, all ranks).

    sequences, tokens: scored ones only. "grpo": sequences; "dapo": tokens; "dr_grpo": sequences * max_tokens, a
    constant length that removes the length bias. At least 1, so that a step without scored samples is a zero step.
    """
    if kind == "grpo":
        return max(sequences, 1.0)
    if kind == "dapo":
        return max(tokens, 1.0)
    if kind == "dr_grpo":
        return max(sequences, 1.0) * max_tokens
    raise ValueError(f"unknown loss {kind!r}: grpo, dapo or dr_grpo")
