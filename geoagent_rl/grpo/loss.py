"""The GRPO objective as plain functions on tensors, made for streaming: a micro-batch yields an
un-normalised sum.

A step's loss is  (sum over micro-batches of `unnormalised_loss`) / `normaliser(totals of the
step)`.  Since the normaliser is applied once, to the accumulated gradient, the step is the same for
every split into micro-batches and every number of ranks, also when it becomes known only at the end
how many samples could be scored.

Shapes: B sequences padded to T completion tokens; `mask` is 1.0 for tokens that count (the end
token included) and 0.0 for padding and for samples that could not be scored. May know nothing of
models or DeepSpeed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from geoagent_rl.config import Config
from geoagent_rl.config.grpo import truncates
from geoagent_rl.grpo.batching import MicroBatch
from geoagent_rl.types import InfraError


def log_ratios(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor, level: str) -> Tensor:
    """Return log(policy / old policy). level "token": of each token, [B, T]; "sequence": the mean
    over the sequence's tokens, [B, 1], so that the ratio is the geometric mean of the tokens'
    ratios (GSPO Eq. 7)."""
    difference = logprobs - old_logprobs
    if level == "token":
        return difference
    if level == "sequence":
        return (difference * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1.0)
    raise ValueError(f"unknown ratio {level!r}: token or sequence")


@torch.no_grad()
def importance_weights(
    logprobs: Tensor, behaviour: Tensor, mask: Tensor, level: str, cap: float
) -> Tensor:
    """Return min(policy / behaviour policy, cap), a constant for the gradient: truncated importance
    sampling.

    behaviour: the sampler's log-probabilities, [B, T]. level "token": of each token, [B, T], biased
    but of low variance; "sequence": of the whole completion, [B, 1], whose logarithm is a *sum* and
    so grows with the length: long completions soon sit at the cap or near 0. The weight is applied
    outside the clip."""
    difference = (logprobs - behaviour) * mask
    if level == "sequence":
        difference = difference.sum(-1, keepdim=True)
    elif level != "token":
        raise ValueError(f"unknown importance correction {level!r}: token or sequence")
    return torch.exp(difference).clamp(max=cap)


def clipped_surrogate(
    log_ratio: Tensor,
    advantages: Tensor,
    clip_low: float,
    clip_high: float,
    ratio_cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the PPO loss -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) with r =
    exp(log_ratio).

    log_ratio: [B, T], or [B, 1] for ratios of whole sequences; advantages: [B]. clip_high >
    clip_low is DAPO's clip-higher. `ratio_cap` truncates r (the importance weight of a stale
    sample) before the minimum, so that a token with A < 0 cannot weigh without bound. Returns the
    loss and 1.0 where the clip is active (it decides the minimum), both in log_ratio's shape."""
    ratio = torch.exp(log_ratio)
    gain = advantages.unsqueeze(-1)
    clipped = torch.clamp(ratio, 1 - clip_low, 1 + clip_high)
    active = ((ratio < 1 - clip_low) & (gain < 0)) | ((ratio > 1 + clip_high) & (gain > 0))
    if ratio_cap is not None:
        ratio = torch.clamp(ratio, max=ratio_cap)
    return -torch.min(ratio * gain, clipped * gain), active.to(log_ratio.dtype)


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return the per-token k3 estimate of KL(policy || reference), exp(d) - d - 1 with d = ref -
    policy; never negative."""
    difference = ref_logprobs - logprobs
    return torch.exp(difference) - difference - 1


def policy_losses(
    logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    old_logprobs: Tensor | None,
    ref_logprobs: Tensor | None,
    clip_low: float,
    clip_high: float,
    ratio_cap: float,
    kl_beta: float,
    ratio: str = "token",
    weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the GRPO loss of each token, [B, T], and {"clipped": 0/1, "kl": nats} of each token.

    old_logprobs: None where they are the detached current ones, so that the ratio is exactly 1;
    otherwise the sampler's at the behaviour version, with the ratio truncated at `ratio_cap`.
    ratio: see log_ratios; with a ratio of exactly 1 both levels have the same gradient. weights:
    importance_weights, or None. ref_logprobs: None without KL, which is added after the weights.
    """
    on_policy = old_logprobs is None
    old = logprobs.detach() if old_logprobs is None else old_logprobs
    log_ratio = log_ratios(logprobs, old, mask, ratio)
    losses, clipped = clipped_surrogate(
        log_ratio, advantages, clip_low, clip_high, None if on_policy else ratio_cap
    )
    losses = losses.expand_as(logprobs)
    found = {"clipped": clipped.expand_as(logprobs)}
    if weights is not None:
        losses = losses * weights
        found["importance"] = weights.expand_as(logprobs)
    if ref_logprobs is not None:
        found["kl"] = k3(logprobs, ref_logprobs)
        losses = losses + kl_beta * found["kl"]
    return losses, found


def grpo_losses(
    logprobs: Tensor, batch: MicroBatch, ref_logprobs: Tensor | None, config: Config
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return `policy_losses` of a micro-batch as the configuration asks for, and "sampler_gap"
    where the sampler's are known.

    Old log-probabilities are the detached current ones at max_staleness 0 and with an importance
    correction (the ratio is exactly 1), otherwise the sampler's at the behaviour version, for *all*
    samples. Raises InfraError when the sampler's are needed and missing."""
    c = config.learner
    corrected = c.importance != "none"
    stale = config.max_staleness > 0 and not corrected
    if (stale or corrected) and batch.behaviour is None:
        raise InfraError(
            "an engine gave no log-probabilities, which stale samples and learner.importance need"
        )
    mask, weights = batch.completion_mask.float(), None
    if corrected and batch.behaviour is not None:
        weights = importance_weights(logprobs, batch.behaviour, mask, c.importance, c.ratio_cap)
    losses, found = policy_losses(
        logprobs,
        batch.advantages,
        mask,
        old_logprobs=batch.behaviour if stale else None,
        ref_logprobs=ref_logprobs,
        clip_low=c.clip_low,
        clip_high=c.clip_high,
        ratio_cap=c.ratio_cap,
        kl_beta=c.kl_beta,
        ratio=c.ratio,
        weights=weights,
    )
    if batch.behaviour is not None and not truncates(config.rollout):
        found["sampler_gap"] = (logprobs.detach() - batch.behaviour).abs()
    return losses, found


class Totals(NamedTuple):
    """Sums over the whole step: all micro-batches, all ranks."""

    sequences: float  # scored ones, also those that overlong masking leaves without tokens, as TRL
    tokens: float  # completion tokens that count
    max_tokens: int  # rollout.max_tokens
    groups: float  # with a scored sample


@dataclass(frozen=True)
class Loss:
    """How token losses become the step's loss.

    part: (token losses [B, T], mask [B, T], counted tokens of the *whole group*) -> a micro-batch's
    share of the step's summed loss. divisor: what that sum is divided by. whole_groups: `part`
    needs the third argument, so a micro-batch holds samples of one group only."""

    part: Callable[[Tensor, Tensor, float], Tensor]
    divisor: Callable[[Totals], float]
    whole_groups: bool = False


def sequence_means(token_losses: Tensor, mask: Tensor, _: float) -> Tensor:
    """Return the sum of the sequences' token means."""
    return ((token_losses * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).sum()


def token_sum(token_losses: Tensor, mask: Tensor, _: float) -> Tensor:
    """Return the sum over tokens."""
    return (token_losses * mask).sum(-1).sum()


def group_mean(token_losses: Tensor, mask: Tensor, group_tokens: float) -> Tensor:
    """Return the tokens' share of their group's token mean.

    The mean is "local", by definition over whatever batch is at hand. Here that is the group, the
    unit in which rollouts stream in: the same for every split into micro-batches, every rank and
    every order, and what TRL computes when its micro-batch is one group. It cannot be the same for
    another cut of the batch: with one group in a step it equals dapo, and with each sequence alone
    it would equal grpo."""
    return token_sum(token_losses, mask, group_tokens) / group_tokens


# By learner.loss, whose choices are these names. dr_grpo divides by a constant length, which
# removes the length bias.
LOSSES = {
    "grpo": Loss(sequence_means, lambda n: n.sequences),  # the paper
    "dapo": Loss(token_sum, lambda n: n.tokens),
    "dr_grpo": Loss(token_sum, lambda n: n.sequences * n.max_tokens),
    "bnpo": Loss(group_mean, lambda n: n.groups, whole_groups=True),
}


def unnormalised_loss(
    token_losses: Tensor, mask: Tensor, kind: str, local_tokens: float | None = None
) -> Tensor:
    """Return the micro-batch's share of the step's loss before division by `normaliser`; a scalar.

    local_tokens: counted tokens of the whole group, of which this micro-batch may be a part; only
    losses of whole groups read it."""
    return LOSSES[kind].part(token_losses, mask, local_tokens or 1.0)


def normaliser(
    kind: str, sequences: float, tokens: float, max_tokens: int, groups: float = 1.0
) -> float:
    """Return what the step's summed loss is divided by: at least 1 sequence, token or group, so
    that a step without scored samples is a zero step. See Totals.
    """
    totals = Totals(max(sequences, 1.0), max(tokens, 1.0), max_tokens, max(groups, 1.0))
    return LOSSES[kind].divisor(totals)
