"""Rows that hold several completions behind one copy of their prompt: which token sees which, and
where it stands.

A completion sees the prompt and itself, never its siblings, and is counted from the prompt's end:
its hidden states, and by back-propagation their gradients, are those of a row of its own. What is
saved is the prompt's share of the work for all completions but one. May know nothing of Ray or
DeepSpeed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoagent_rl.grpo.batching import MicroBatch


def visible(batch: MicroBatch, dtype: torch.dtype) -> Tensor:
    """The attention mask for transformers: [R, L] as it is for rows of one completion (causal is
    understood), else [R, 1, L, L] to be added to the scores, 0.0 or the most negative number of
    `dtype`."""
    if not batch.shared:
        return batch.attention_mask
    keys, queries = batch.segments.unsqueeze(-2), batch.segments.unsqueeze(-1)
    allowed = ((keys == 0) | (keys == queries)).tril()
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


def counted_from_prompt(positions: Tensor, batch: MicroBatch) -> Tensor:
    """Positions [3, R, L] of rows read as one text -> each completion's counted on from the end of
    its prompt.
    """
    if not batch.shared:
        return positions
    last = (batch.segments == 0).sum(-1, keepdim=True) - 1
    start = positions.gather(-1, last.expand(3, -1, -1)) + 1
    return torch.where(batch.segments > 0, start + batch.offsets, positions)


def attention_balance(text_config: Any) -> int:
    """The length of a row, in tokens, at which its attention costs as much as its linear layers:
    about 32,500 for Qwen2.5-VL-7B, 800 for the tiny policy. What `batching.rows_of` fills rows
    by."""
    c = text_config
    head = c.hidden_size // c.num_attention_heads
    attention = 2 * c.hidden_size**2 + 2 * c.hidden_size * c.num_key_value_heads * head
    layer = attention + 3 * c.hidden_size * c.intermediate_size  # multiply-adds for a token
    return layer // (2 * c.hidden_size)  # multiply-adds for a pair of tokens
