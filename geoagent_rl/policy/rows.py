"""Rows that hold several prompts, each with several completions: which token sees which, and where
it stands.

A completion sees its prompt and itself, never its siblings or another prompt, and is counted from
its prompt's end: its hidden states, and by back-propagation their gradients, are those of a row of
its own. May know nothing of Ray or DeepSpeed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from geoagent_rl.grpo.batching import MicroBatch


def visible(batch: MicroBatch, dtype: torch.dtype) -> Tensor | None:
    """Return the attention mask for transformers: None for rows of one sequence (causal is
    understood, and padding stands behind all that counts), else [R, 1, L, L] to be added to the
    scores, 0.0 or the most negative number of `dtype`."""
    if batch.plain:
        return None
    documents, segments = batch.documents, batch.segments
    own = segments.unsqueeze(-2) == segments.unsqueeze(-1)
    prompt = (segments == 0).unsqueeze(-2)
    allowed = (documents.unsqueeze(-2) == documents.unsqueeze(-1)) & (prompt | own)
    allowed = allowed.tril()
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


def visible_blocks(batch: MicroBatch) -> BlockMask:
    """Return `visible` for flex attention, which leaves out blocks of tokens that see nothing of
    each other."""
    documents, segments = batch.documents, batch.segments
    rows, length = segments.shape

    def sees(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (segments[row, key] == 0) | (segments[row, key] == segments[row, query])
        return (query >= key) & (documents[row, key] == documents[row, query]) & own

    return create_block_mask(sees, rows, None, length, length, device=segments.device)


def row_positions(batch: MicroBatch, of_prompt: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return rotary positions [3, R, L] on the CPU, 0 on padding: each prompt's own, each
    completion's counted on from its prompt's end.

    of_prompt(ids [P], image) gives those of one prompt, [3, P]. `batch` must be on the CPU."""
    found = torch.zeros((3, *batch.input_ids.shape), dtype=torch.long)
    for block in batch.blocks:
        place = slice(block.start, block.stop)
        positions = of_prompt(batch.input_ids[block.row, place], block.image)
        found[:, block.row, place] = positions
        for start, stop in block.completions:
            counted = positions[:, -1:] + 1 + torch.arange(stop - start)
            found[:, block.row, start:stop] = counted
    return found


def attention_balance(text_config: Any) -> int:
    """Return the length of a row, in tokens, at which its attention costs as much as its linear
    layers: about 32,500 for Qwen2.5-VL-7B, 800 for the tiny policy. What grpo/batching.py fills
    rows by."""
    c = text_config
    head = c.hidden_size // c.num_attention_heads
    attention = 2 * c.hidden_size**2 + 2 * c.hidden_size * c.num_key_value_heads * head
    layer: int = attention + 3 * c.hidden_size * c.intermediate_size  # multiply-adds for a token
    width: int = c.hidden_size
    return layer // (2 * width)  # multiply-adds for a pair of tokens
