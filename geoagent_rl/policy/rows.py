"""Rows that hold several prompts, each with several completions: which token sees which, and where
it stands.

A completion sees its prompt and itself, never its siblings or another prompt, and is counted from
its prompt's end: its hidden states, and by back-propagation their gradients, are those of a row of
its own. May know nothing of Ray or DeepSpeed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from geoagent_rl.grpo.batching import MicroBatch

# what a language model takes: one for all layers, or one for each kind of layer
Mask = Tensor | BlockMask | Mapping[str, Tensor | BlockMask] | None
Sees = Callable[[Tensor, Tensor, Tensor], Tensor]


def visible(batch: MicroBatch, dtype: torch.dtype) -> Tensor | None:
    """Return the attention mask for transformers: None for rows of one sequence (causal is
    understood, and padding stands behind all that counts), else [R, 1, L, L] to be added to the
    scores, 0.0 or the most negative number of `dtype`."""
    return None if batch.plain else added(related(batch).tril(), dtype)


def related(batch: MicroBatch) -> Tensor:
    """Return which token [R, L, 1] may see which other [R, 1, L], were order no matter: all of its
    prompt and of its completion."""
    documents, segments = batch.documents, batch.segments
    own = segments.unsqueeze(-2) == segments.unsqueeze(-1)
    prompt = (segments == 0).unsqueeze(-2)
    return (documents.unsqueeze(-2) == documents.unsqueeze(-1)) & (prompt | own)


def added(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores, [R, 1, L, L], where [R, L, L] says who sees whom."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


def visible_blocks(batch: MicroBatch) -> BlockMask:
    """Return `visible` for flex attention, which leaves out blocks of tokens that see nothing of
    each other."""
    sees = related_of(batch)
    return blocks_where(lambda r, q, k: (q >= k) & sees(r, q, k), batch)


def related_of(batch: MicroBatch) -> Sees:
    """Return `related` as a function of row, query and key."""
    documents, segments = batch.documents, batch.segments

    def sees(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (segments[row, key] == 0) | (segments[row, key] == segments[row, query])
        return (documents[row, key] == documents[row, query]) & own

    return sees


def blocks_where(sees: Sees, batch: MicroBatch) -> BlockMask:
    """Return flex attention's mask of a function of row, query and key."""
    rows, length = batch.segments.shape
    device = batch.segments.device
    return create_block_mask(
        lambda row, _, query, key: sees(row, query, key), rows, None, length, length, device=device
    )


def row_positions(batch: MicroBatch, of_prompt: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return rotary positions [A, R, L] on the CPU, 0 on padding: each prompt's own, each
    completion's counted on from its prompt's end.

    of_prompt(ids [P], image) gives those of one prompt, [A, P]; A is the number of axes. `batch`
    must be on the CPU."""
    found: Tensor | None = None
    for block in batch.blocks:
        place = slice(block.start, block.stop)
        positions = of_prompt(batch.input_ids[block.row, place], block.image)
        if found is None:
            found = torch.zeros((len(positions), *batch.input_ids.shape), dtype=torch.long)
        found[:, block.row, place] = positions
        for start, stop in block.completions:
            counted = positions[:, -1:] + 1 + torch.arange(stop - start)
            found[:, block.row, start:stop] = counted
    assert found is not None  # a batch has a block
    return found


def head_size(text_config: Any) -> int:
    """Return the width of an attention head: what the configuration says, else an equal share."""
    c = text_config
    found: int = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    return found


def attention_balance(text_config: Any) -> int:
    """Return the length of a row, in tokens, at which its attention costs as much as its linear
    layers: about 32,500 for Qwen2.5-VL-7B, 800 for the tiny policy. What grpo/batching.py fills
    rows by."""
    c = text_config
    width: int = c.num_attention_heads * head_size(c)  # of queries
    key_values = c.num_key_value_heads * head_size(c)
    attention = 2 * c.hidden_size * (width + key_values)
    layer: int = attention + 3 * c.hidden_size * c.intermediate_size  # multiply-adds for a token
    return layer // (2 * width)  # multiply-adds for a pair of tokens
