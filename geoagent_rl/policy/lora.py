"""How an adapter enters its layer: three forms of x W + s (x A) B, the same up to rounding.

PEFT's own makes three more tensors of the output's size and computes in the adapter's dtype. Here
the product is added in place, in the base's dtype, while the adapter and its gradient stay float32;
or, in small layers, the adapter is multiplied out. Both need whole parameters: ZeRO 3 keeps PEFT's.
Layers are PEFT's LoraLayer over
a linear layer, whose members PEFT does not annotate. May know nothing of Ray or DeepSpeed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn


def merged_weight(base: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """Return W + s B A [outputs, inputs]: added up in float32, rounded once to the dtype of W."""
    whole = base.to(torch.float32, copy=True)
    return whole.addmm_(b.float(), a.float(), alpha=scaling).to(base.dtype)


def use_fast_adapters(layers: Sequence[Any]) -> int:
    """Replace PEFT's forward in all layers; return in how many the adapter is multiplied out.
    Dropout is of the adapter's input, so an adapter with dropout is never multiplied out."""
    folded = 0
    for layer in layers:
        whole = isinstance(layer.lora_dropout["default"], nn.Identity)
        fold = whole and is_wide(layer) and layer.get_base_layer().weight.dtype == torch.float32
        layer.forward = functools.partial(folded_forward if fold else added_forward, layer)
        folded += fold
    return folded


def is_wide(layer: Any) -> bool:
    """Say whether W + s B A costs less than the adapter's two products on every token (r tokens or
    more assumed): on the tiny policy (rank 64 in layers of width 128) a third of the learner's
    time, never on a real one."""
    base: nn.Linear = layer.get_base_layer()
    outputs, inputs = base.weight.shape
    rank: int = layer.r["default"]
    return outputs * inputs <= 2 * rank * (outputs + inputs)


def folded_forward(layer: Any, x: Tensor) -> Tensor:
    """Return x (W + s B A) + bias."""
    base: nn.Linear = layer.get_base_layer()
    if layer.disable_adapters:
        return cast(Tensor, base(x))
    change: Tensor = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    return nn.functional.linear(x, base.weight + layer.scaling["default"] * change, base.bias)


def added_forward(layer: Any, x: Tensor) -> Tensor:
    """Return x W + bias, to which s (x A) B is added by the matrix product itself."""
    rows = x.flatten(0, -2)
    out: Tensor = layer.get_base_layer()(rows)
    if not layer.disable_adapters:
        a, b = (m["default"].weight.to(x.dtype) for m in (layer.lora_A, layer.lora_B))
        seen = layer.lora_dropout["default"](rows)
        out = out.addmm_(seen @ a.t(), b.t(), alpha=layer.scaling["default"])
    return out.view(*x.shape[:-1], -1)
