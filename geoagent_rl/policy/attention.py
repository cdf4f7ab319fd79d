"""Flex attention for the policy's language model: packed rows without a dense mask.

transformers asks the function registered here for every attention; with a BlockMask it is torch's
flex attention, otherwise transformers' own scaled dot product. May know nothing of Ray or
DeepSpeed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from geoagent_rl.grpo.batching import collate
from geoagent_rl.grpo.samples import TrainSample, token_ids
from geoagent_rl.policy.rows import visible, visible_blocks

log = logging.getLogger(__name__)

NAME = "flex_or_sdpa"
BLOCK = 128  # flex attention's blocks: rows of a multiple of it have no half-empty ones
PROBE_TOLERANCE = 0.02  # of the probe's outputs and gradients in bfloat16, relative


@cache
def flex(device_type: str) -> Callable[..., Tensor]:
    """Return it, compiled once for rows of any length. (On CPUs torch's own loop, which has no
    backward: for tests.)"""
    if device_type != "cuda":
        return flex_attention
    # With gradient and without, one block and more: beyond torch's limit of 8 it would run its loop
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(flex_attention, dynamic=True)


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Attend, as transformers' interface asks: query [R, heads, L, D], key and value with fewer
    heads; the result is [R, L, heads, D]."""
    if not isinstance(mask, BlockMask):
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, mask, **options
        )
        return found
    run = flex(query.device.type)
    scale = options.get("scaling")
    out: Tensor = run(query, key, value, block_mask=mask, scale=scale, enable_gqa=True)
    return out.transpose(1, 2).contiguous(), None


def use_flex(network: Any) -> None:
    """Let the language model take a BlockMask in place of an attention mask."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    for module in network.model.language_model.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = NAME


def uses_flex(network: Any) -> bool:
    """Say whether `use_flex` has been called for the network."""
    return bool(network.config.text_config._attn_implementation == NAME)


def flex_works(device: torch.device, heads: int, kv_heads: int, head_dim: int) -> bool:
    """Say whether flex attention compiles here, forward and backward, and is right at two lengths.

    Never on a CPU, where it has no backward. Takes some seconds on a GPU: what it compiles is used
    afterwards."""
    if device.type != "cuda":
        return False
    try:
        return all(probe(device, heads, kv_heads, head_dim, n) for n in (50, 300))
    except Exception as error:  # noqa: BLE001 (Triton and its compiler raise what they like)
        log.warning("flex attention does not compile here: %s", str(error).splitlines()[0])
        return False


def probe(device: torch.device, heads: int, kv_heads: int, head_dim: int, tokens: int) -> bool:
    """Compare flex attention with the masked one on two prompts with two completions each of so
    many tokens.
    """
    prompts = [
        TrainSample("", str(i), token_ids(range(100 + i)), token_ids(range(tokens)))
        for i in range(2)
    ]
    rows = [[[s, s] for s in prompts]]
    batch = collate(rows, ["0", "1"], -1, 0, BLOCK).to(device)
    generator = torch.Generator(device).manual_seed(0)
    shapes = [(1, n, batch.input_ids.shape[1], head_dim) for n in (heads, kv_heads, kv_heads)]
    noise = partial(torch.randn, device=device, dtype=torch.bfloat16, generator=generator)
    query, key, value = inputs = [noise(shape).requires_grad_() for shape in shapes]
    outer, mask = noise(shapes[0]), visible(batch, torch.bfloat16)
    found = flex(device.type)(*inputs, block_mask=visible_blocks(batch), enable_gqa=True)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    gradients = (torch.autograd.grad(out, inputs, outer) for out in (found, expected))
    pairs = [(found, expected), *zip(*gradients, strict=True)]
    error = max(float((a - b).norm() / b.norm()) for a, b in pairs)
    if not error <= PROBE_TOLERANCE:
        log.warning("flex attention is off by %.2g here: rows are masked instead", error)
    return error <= PROBE_TOLERANCE
