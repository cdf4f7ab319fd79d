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
) -> tuple[Tensor, Tensor]:
    """log p(target) and entropy (nats, detached) at N positions.

    hidden: [N, H], any dtype; head maps [n, H] to logits [n, vocab_size]; targets: [N]; banned: ids
    that cannot be sampled. Both results are float32 [N], of the distribution softmax(logits /
    temperature) over allowed tokens."""
    chunk = max(1, chunk_elements // vocab_size)
    parts = []
    for rows, ids in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        if torch.is_grad_enabled() and len(hidden) > chunk:
            parts.append(
                checkpoint(
                    chunk_logprobs, rows, head, ids, temperature, banned, use_reentrant=False
                )
            )
        else:
            parts.append(chunk_logprobs(rows, head, ids, temperature, banned))
    if len(parts) == 1:
        return parts[0]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def chunk_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    temperature: float,
    banned: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """As selective_logprobs, for one chunk. Raises nothing; a banned target gets a log-probability
    near -1e4/T.
    """
    logits = head(hidden).float()
    if banned is not None and len(banned):
        logits = logits.index_fill(-1, banned, BANNED_LOGIT)
    if temperature != 1.0:
        logits = logits / temperature
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return chosen, entropy
