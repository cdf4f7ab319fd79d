"""The frozen vision tower over the pictures of a call, all together.

transformers runs one attention for each window of 64 patches, 452 for a picture of 255 tokens, and
reads their sizes back from the device. Here windows of one size are one batch, and sizes are worked
out on the CPU, where the grids are. The tower's own modules do the rest. May know nothing of Ray
or DeepSpeed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import (
    get_vision_cu_seqlens,
    get_vision_position_ids,
    get_vision_window_index,
)

from geoagent_rl.grpo.batching import to_device


@dataclass(frozen=True, slots=True)
class Segments:
    """Patches that see one another, segments of one length side by side.

    order [S]: the patches sorted by the length of their segment; back [S]: its inverse; sizes:
    (number of segments, patches of each) for each length."""

    order: Tensor
    back: Tensor
    sizes: tuple[tuple[int, int], ...]


def segments(ends: Tensor, device: torch.device) -> Segments:
    """Sort segments by length. ends: cumulative lengths from 0, on the CPU."""
    lengths = ends.diff().long()
    order = torch.argsort(lengths.repeat_interleave(lengths), stable=True)
    found, counts = lengths.unique(return_counts=True)
    sizes = tuple(zip(counts.tolist(), found.tolist(), strict=True))
    return Segments(to_device(order, device), to_device(order.argsort(), device), sizes)


@torch.no_grad()
def image_features(visual: Any, pixels: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
    """Return the features of each image, [tokens of the image, H].

    visual: the tower of a Qwen2.5-VL; pixels: all images' rows, on its device; grids: [images, 3],
    on the CPU."""
    device, merge = pixels.device, visual.spatial_merge_size
    places = to_device(get_vision_position_ids(grids, merge), device)
    order, ends = get_vision_window_index(grids, merge, visual.window_size, visual.patch_size)
    windows, wholes = segments(ends, device), segments(get_vision_cu_seqlens(grids), device)
    back, order = to_device(order.argsort(), device), to_device(order, device)

    def permuted(x: Tensor) -> Tensor:
        return x.view(len(order), merge**2, -1).index_select(0, order).view(len(x), -1)

    hidden = permuted(visual.patch_embed(pixels.type(visual.dtype)))
    rotary = [permuted(x) for x in visual.rotary_pos_emb(hidden, places)]
    for number, block in enumerate(visual.blocks):
        seen = wholes if number in visual.fullatt_block_indexes else windows
        hidden = hidden + attention(block.attn, block.norm1(hidden), rotary, seen)
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged = visual.merger(hidden).index_select(0, back)
    sizes: list[int] = (grids.prod(-1) // merge**2).tolist()
    return cast(tuple[Tensor, ...], merged.split(sizes))


def attention(module: Any, x: Tensor, rotary: list[Tensor], seen: Segments) -> Tensor:
    """Return the tower's attention of each patch over its segment, x: [S, H]."""
    qkv = module.qkv(x).view(len(x), 3, module.num_heads, -1)
    query, key = apply_rotary_pos_emb_vision(qkv[:, 0], qkv[:, 1], *rotary)
    parts = [t.index_select(0, seen.order) for t in (query, key, qkv[:, 2])]
    out, start = [], 0
    for count, length in seen.sizes:
        taken = (t[start : start + count * length] for t in parts)
        q, k, v = (t.view(count, length, *t.shape[1:]).transpose(1, 2) for t in taken)
        found = scaled_dot_product_attention(q, k, v, scale=module.scaling)
        out.append(found.transpose(1, 2).flatten(0, 1))
        start += count * length
    proj: nn.Linear = module.proj
    return cast(Tensor, proj(torch.cat(out).index_select(0, seen.back).flatten(1)))
