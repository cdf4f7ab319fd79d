"""Log-probabilities of completion tokens from hidden states, as the sampler saw them: temperature,
bans, float32.

Logits exist for completion tokens only (not for prompt or padding) and for one chunk of tokens at a
time; in training a chunk is recomputed in backward instead of kept. May know nothing of prompts or
images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BANNED_LOGIT = (
    -1e4
)  # finite, so that entropy (p log p) stays finite; its probability is exactly 0 in float32
CHUNK_ELEMENTS = 2**25  # logits held at a time: 128 MB in float32


def selective_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    vocab_size: int,
    temperature: float = 1.0,
    banned: Tensor | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return log p(target) and, where asked for, entropy (nats, detached) at N positions.

    hidden: [N, H], any dtype; head maps [n, H] to logits [n, vocab_size]; targets: [N]; banned: ids
    that cannot be sampled. Both results are float32 [N], of the distribution softmax(logits /
    temperature) over allowed tokens."""
    chunk = max(1, chunk_elements // vocab_size)
    logprobs: list[Tensor] = []
    entropies: list[Tensor] = []
    for rows, ids in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        found: list[Tensor] = []
        arguments = rows, head, ids, temperature, banned, found if entropy else None
        if torch.is_grad_enabled() and len(hidden) > chunk:
            logprobs.append(checkpoint(chunk_logprobs, *arguments, use_reentrant=False))
        else:
            logprobs.append(chunk_logprobs(*arguments))
        entropies += found[:1]
    if not entropy:
        return torch.cat(logprobs), None
    return torch.cat(logprobs), torch.cat(entropies)


def chunk_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    temperature: float,
    banned: Tensor | None,
    entropy: list[Tensor] | None = None,
) -> Tensor:
    """Return log p(target) of one chunk; a banned target gets a log-probability near -1e4/T.

    entropy: an empty list that takes the chunk's entropy. When a checkpoint runs this a second time
    the list is full, and the entropy is not computed again."""
    logits = head(hidden).float()
    if banned is not None and len(banned):
        logits = logits.index_fill(-1, banned, BANNED_LOGIT)
    if temperature != 1.0:
        logits = logits / temperature
    logprobs = torch.log_softmax(logits, dim=-1)
    if entropy is not None and not entropy:
        with torch.no_grad():
            entropy.append(-(logprobs.exp() * logprobs).sum(-1))
    return logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
