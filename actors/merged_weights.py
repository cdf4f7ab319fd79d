"""Adapters merged into a vLLM worker's own weights, each time from the untouched base: after any
number of swaps they are base + adapter as an exported checkpoint has it (lora.merged_weight).

Runs inside vLLM's worker process. May know bound_weights and vLLM's linear layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from actors.bound_weights import (
    adapter_scaling,
    by_layer,
    held_parameters,
    is_row_parallel,
    own_slice,
    packed_parts,
    weight_of,
)
from geoagent_rl.policy.lora import merged_weight

MAIN_MEMORY = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of the worker: its published parts, and this worker's share of the base's
    weights of each, [outputs, inputs], in main memory."""

    name: str
    module: Any
    parts: tuple[str, ...]
    base: tuple[Tensor, ...]


class MergedWeights:
    """The language model's linear layers in one worker, to merge adapters into."""

    def __init__(self, model: Any, checkpoint: str) -> None:
        """model: vLLM's, which holds the whole `checkpoint`, a directory."""
        published = by_layer(Path(checkpoint))
        found: list[tuple[str, Any, list[str], list[Tensor]]] = []
        for name, module, kind in held_parameters(model):
            parts = packed_parts(name)
            if kind != "weight" or not name.startswith("layers."):
                continue
            whole = [published[f"{part}.weight"] for part in parts]
            if whole[0].ndim == 2:
                shares = [own_slice(module, i, part) for i, part in enumerate(whole)]
                found.append((name, module, parts, shares))
        first: Tensor = found[0][1].weight
        self.device = first.device
        kept = iter(copies([s for *_, shares in found for s in shares], first.dtype, self.device))
        self.layers = [
            Linear(name, module, tuple(parts), tuple(next(kept) for _ in parts))
            for name, module, parts, _ in found
        ]

    def merge(self, adapter: str) -> str:
        """Make the weights base + `adapter`, a PEFT directory; return what is wrong with them then,
        "" when nothing is."""
        for layer, weight in self.merged(adapter):
            put(layer.module, weight)
        for layer, weight in self.merged(adapter):
            if not torch.equal(weight_of(layer.module, weight), weight):
                return f"{layer.name} does not hold the weight of {adapter}"
        known = {part for layer in self.layers for part in layer.parts}
        left = {name.rpartition(".lora_")[0] for name in by_layer(Path(adapter))} - known
        return f"no module took {sorted(left)[0]}" if left else ""

    def merged(self, adapter: str) -> Iterator[tuple[Linear, Tensor]]:
        """Yield each layer and its weights with the adapter, on the worker's device."""
        scaling = adapter_scaling(Path(adapter))
        published = by_layer(Path(adapter))
        for layer in self.layers:
            weight = torch.empty(
                (sum(len(base) for base in layer.base), layer.base[0].shape[1]),
                dtype=layer.base[0].dtype,
                device=self.device,
            )
            rows = weight.split([len(base) for base in layer.base])
            for i, (part, base, out) in enumerate(zip(layer.parts, layer.base, rows, strict=True)):
                here = base.to(self.device, non_blocking=True)
                a, b = (published.get(f"{part}.lora_{side}.weight") for side in "AB")
                if a is not None and b is not None:
                    a, b = own_factors(layer.module, i, a, b)
                    here = merged_weight(here, a.to(self.device), b.to(self.device), scaling)
                out.copy_(here)
            yield layer, weight


def own_factors(module: Any, part: int, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return what of an adapter's A [r, inputs] and B [outputs, r] concerns the worker's share."""
    if is_row_parallel(module):
        return own_slice(module, part, a), b
    return a, own_slice(module, part, b)


def copies(tensors: Sequence[Tensor], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Return copies in one block of main memory; beside a GPU it is pinned: torch rounds every
    pinned allocation up to a power of two."""
    block = torch.empty(
        sum(t.numel() for t in tensors), dtype=dtype, pin_memory=device != MAIN_MEMORY
    )
    places = block.split([t.numel() for t in tensors])
    return [place.view(t.shape).copy_(t) for place, t in zip(places, tensors, strict=True)]


def put(module: Any, weight: Tensor) -> None:
    """Give a linear layer its weights, in place where it computes with them as they are."""
    if hasattr(module, "cpu_linear"):  # a kernel of vLLM's CPU build has them in its own form
        module.weight = nn.Parameter(weight, requires_grad=False)
        module.quant_method.process_weights_after_loading(module)
    else:
        module.weight.data.copy_(weight)
