"""What weights a vLLM worker really holds, module by module, against a published directory.

The engine's probe cannot tell: in bfloat16 the rounding of two engines moves log-probabilities more
than a step of the learner does (measured: docs/gpu.md). So every number is compared, exactly. That
the directory is what the learner published is the engine's to check (policy/digest.py). Runs inside
vLLM's worker process, after each swap. Knows the inside of vLLM 0.26 to 0.32: an attribute that is
missing raises, nothing is taken for granted.

Compared are the parts of the language model that training changes, its layers, and the embeddings
and head of a whole checkpoint; the vision tower is frozen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geoagent_rl.policy.digest import read_weights
from geoagent_rl.policy.families import FAMILIES

PACKED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
}
VISION = {module for family in FAMILIES.values() for module in family.vision_modules}
ENDS = ("embed_tokens.weight", "lm_head.weight", "norm.weight")  # beside the layers


def adapter_problem(model: Any, lora_id: int, path: str) -> str:
    """Return what is wrong with the adapter `lora_id` in this worker; "" when all of it is bound.

    path: its PEFT directory."""
    scaling = adapter_scaling(Path(path))
    manager = model.lora_manager
    if lora_id not in manager.lora_index_to_id:
        return f"vLLM has not activated the adapter {path}"
    slot = manager.lora_index_to_id.index(lora_id)
    published = by_layer(Path(path))
    for name, module in manager.modules.items():
        if not hasattr(module, "lora_b_stacked"):
            continue
        a, b = (
            [published.pop(f"{part}.lora_{side}.weight", None) for part in packed_parts(name)]
            for side in "AB"
        )
        if not slot_holds(module, slot, a, b, scaling):
            return f"{name} does not hold the published adapter"
    if published:
        return f"no module took {sorted(published)[0]} and {len(published) - 1} other tensors"
    return ""


def by_layer(directory: Path) -> dict[str, Tensor]:
    """Return the tensors of a published directory under their `layer_name`s."""
    return {layer_name(name): tensor for name, tensor in read_weights(directory).items()}


def adapter_scaling(path: Path) -> float:
    """Return alpha / r, which vLLM multiplies B with when it loads an adapter."""
    config = json.loads((path / "adapter_config.json").read_text())
    return float(config["lora_alpha"]) / float(config["r"])


def slot_holds(
    module: Any,
    slot: int,
    a: Sequence[Tensor | None],
    b: Sequence[Tensor | None],
    scaling: float,
) -> bool:
    """Return whether a LoRA layer holds A and scaling * B of its parts, zeros where None."""
    stacks_a, stacks_b = stacks(module.lora_a_stacked), stacks(module.lora_b_stacked)
    dtype = stacks_b[0].dtype
    shares_a = [None if t is None else t.to(dtype) for t in a]
    shares_b = [None if t is None else t.to(dtype) * scaling for t in b]
    if getattr(module, "tp_size", 1) > 1 and any(t is not None for t in b):
        shares_a, shares_b = tensor_parallel(module, shares_a, shares_b)
    pairs = [*zip(stacks_a, shares_a, strict=True), *zip(stacks_b, shares_b, strict=True)]
    return all(holds(buffer[slot], share) for buffer, share in pairs)


def stacks(buffers: Any) -> Sequence[Tensor]:
    """Return the buffers of a layer's parts; a layer of one part may have no tuple of them."""
    return buffers if isinstance(buffers, tuple | list) else (buffers,)


def tensor_parallel(
    module: Any, a: list[Tensor | None], b: list[Tensor | None]
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return the worker's share of a layer's A and B, by the layer's own slicing."""
    if len(a) == 1:
        return [module.slice_lora_a(a[0])], [module.slice_lora_b(b[0])]
    return module.slice_lora_a(a), module.slice_lora_b(b)


def holds(buffer: Tensor, expected: Tensor | None) -> bool:
    """Return whether a slot's corner equals `expected` and the rest, if any, is zero."""
    if expected is None:
        return not buffer.any()
    rows, columns = expected.shape
    (whole,) = buffer
    corner = whole[:rows, :columns]
    rest = whole[rows:].any() or whole[:, columns:].any()
    return torch.equal(corner.cpu(), expected) and not rest


def weights_problem(model: Any, path: str) -> str:
    """Return what is wrong with the whole weights in this worker; "" when they are those of `path`,
    a checkpoint directory."""
    published = by_layer(Path(path))
    tied = "lm_head.weight" not in published
    if tied:
        published["lm_head.weight"] = published["embed_tokens.weight"]
    for name, module, kind in held_parameters(model):
        names = [f"{part}.{kind}" for part in packed_parts(name)]
        parts = [published.pop(each) for each in names]
        expected = own_share(module, parts)
        found = weight_of(module, expected) if kind == "weight" else getattr(module, kind)
        # as loading rounds; the kernels of some CPUs then keep biases in float32
        loaded = getattr(module, "weight", found).dtype
        expected = expected.to(loaded).to(found.dtype)
        if not torch.equal(found[: len(expected)].cpu(), expected):
            return f"{name} does not hold the {kind} in {path}"
    if tied:
        published.pop("lm_head.weight", None)  # where vLLM makes one module of both
    left = [name for name in published if name.startswith("layers.") or name in ENDS]
    if left:
        return f"no module took {sorted(left)[0]} and {len(left) - 1} other tensors of {path}"
    return ""


def held_parameters(model: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield (module's name, module, parameter's name) of the language model."""
    seen: set[str] = set()
    for name, module in model.named_modules():
        for kind, _ in module.named_parameters(recurse=False):
            key = layer_name(f"{name.removesuffix('.base_layer')}.{kind}")
            if (key.startswith("layers.") or key in ENDS) and key not in seen:
                seen.add(key)  # a LoRA layer shows its base's parameters too
                yield key.removesuffix(f".{kind}"), module, kind


def own_share(module: Any, parts: Sequence[Tensor]) -> Tensor:
    """Return what the worker's module holds of its parts' tensors, one below the other."""
    return torch.cat([own_slice(module, i, part) for i, part in enumerate(parts)])


def own_slice(module: Any, number: int, part: Tensor) -> Tensor:
    """Return what the worker holds of a module's part `number`: rows, or columns, by rank.

    The kinds of vLLM's layers are told by what only they have."""
    if hasattr(module, "shard_indices"):  # embeddings and head
        rows = module.shard_indices
        return part[rows.org_vocab_start_index : rows.org_vocab_end_index]
    size, rank = getattr(module, "tp_size", 1), getattr(module, "tp_rank", 0)
    if size == 1:
        return part
    if is_row_parallel(module):  # columns, and all of the bias
        return part.chunk(size, 1)[rank] if part.ndim == 2 else part
    # with more ranks than key-value heads several ranks hold the same keys and values
    copies = getattr(module, "num_kv_head_replicas", 1) if number else 1
    return part.chunk(size // copies)[rank // copies]


def is_row_parallel(module: Any) -> bool:
    """Say whether workers share a linear layer's inputs, not its outputs."""
    return hasattr(module, "input_is_parallel")


def weight_of(module: Any, like: Tensor) -> Tensor:
    """Return a module's weights, of the shape of `like`: [outputs, inputs] of a linear layer.

    vLLM's CPU build computes with a copy in its kernels' own form, beside the weights or instead of
    them: there the layer is asked for its answers to unit vectors, which are its columns, exactly.
    """
    weight: Tensor = module.weight
    if not hasattr(module, "cpu_linear"):
        return weight
    units = torch.eye(like.shape[1], dtype=weight.dtype)
    answers: Tensor = module.quant_method.apply(module, units, None)
    return answers.T


def packed_parts(name: str) -> list[str]:
    """Return the published names of what vLLM keeps in one module, from "layers." on."""
    stem, _, leaf = layer_name(name).rpartition(".")
    return [f"{stem}.{part}" if stem else part for part in PACKED.get(leaf, (leaf,))]


def layer_name(name: str) -> str:
    """Return a tensor's or module's name from "layers." on, which every naming of it shares.

    Outside the layers: its last two words; the vision tower's names stay as they are."""
    if any(module in name for module in VISION):
        return name
    before, found, after = name.rpartition("layers.")
    if found and (not before or before.endswith(".")):
        return f"layers.{after}"
    return ".".join(name.split(".")[-2:])
