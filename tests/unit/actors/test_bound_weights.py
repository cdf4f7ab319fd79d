"""The comparison of a vLLM worker's weights with published ones, on stand-ins for vLLM's layers.

Real engines: tests/stack/test_weight_guard.py."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from actors.bound_weights import adapter_problem, own_share, weights_problem

HIDDEN, RANK, SLOTS, MOST = 8, 2, 3, 4  # MOST: the rank that vLLM makes room for
ATTENTION = ("q_proj", "k_proj", "v_proj")


def random(*size: int) -> Tensor:
    return torch.randn(*size)


class LoraLayer:
    """As vLLM's: a stack of slots for A and B of each part."""

    def __init__(self, parts: int, dtype: torch.dtype) -> None:
        self.tp_size = 1
        self.lora_a_stacked = [
            torch.zeros(SLOTS, 1, MOST, HIDDEN, dtype=dtype) for _ in range(parts)
        ]
        self.lora_b_stacked = [
            torch.zeros(SLOTS, 1, HIDDEN, MOST, dtype=dtype) for _ in range(parts)
        ]


def published_adapter(folder, leaves, dtype) -> dict[str, Tensor]:
    found = {}
    for leaf in leaves:
        name = f"base_model.model.model.language_model.layers.0.self_attn.{leaf}"
        found[f"{name}.lora_A.weight"] = random(RANK, HIDDEN).to(dtype)
        found[f"{name}.lora_B.weight"] = random(HIDDEN, RANK).to(dtype)
    save_file(found, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 3 * RANK}))
    return found


def bind(layer: LoraLayer, slot: int, tensors: dict[str, Tensor], leaves) -> None:
    dtype = layer.lora_a_stacked[0].dtype
    for i, leaf in enumerate(leaves):
        a, b = (next(t for n, t in tensors.items() if f"{leaf}.lora_{s}" in n) for s in "AB")
        layer.lora_a_stacked[i][slot, 0, :RANK] = a.to(dtype)
        layer.lora_b_stacked[i][slot, 0, :, :RANK] = b.to(dtype) * 3.0


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def worker(request, tmp_path):
    """A model with the adapter 7 in slot 1, bound whole, and its directory."""
    torch.manual_seed(0)
    tensors = published_adapter(tmp_path, (*ATTENTION, "o_proj"), torch.float32)
    layers = {
        "language_model.model.layers.0.self_attn.qkv_proj": LoraLayer(3, request.param),
        "language_model.model.layers.0.self_attn.o_proj": LoraLayer(1, request.param),
    }
    for layer, leaves in zip(layers.values(), (ATTENTION, ("o_proj",)), strict=True):
        bind(layer, 1, tensors, leaves)
    manager = SimpleNamespace(lora_index_to_id=[None, 7, 3], modules=layers)
    return SimpleNamespace(lora_manager=manager), layers, tmp_path


def test_an_adapter_that_is_bound_whole_is_right(worker):
    model, _, folder = worker
    assert adapter_problem(model, 7, str(folder)) == ""


def test_the_last_bit_of_one_number_shows(worker):
    model, layers, folder = worker
    buffer = layers["language_model.model.layers.0.self_attn.qkv_proj"].lora_b_stacked[1]
    buffer[1, 0, 2, 1] *= 1 + torch.finfo(buffer.dtype).eps
    assert "qkv_proj does not hold the published adapter" in adapter_problem(model, 7, str(folder))


def test_a_part_that_is_missing_and_one_too_many_show(worker):
    model, layers, folder = worker
    o_proj = layers["language_model.model.layers.0.self_attn.o_proj"]
    o_proj.lora_b_stacked[0][1, 0, 0, RANK] = 1.0  # of an adapter of a higher rank
    assert "o_proj does not hold" in adapter_problem(model, 7, str(folder))
    del layers["language_model.model.layers.0.self_attn.o_proj"]
    assert "no module took layers.0.self_attn.o_proj" in adapter_problem(model, 7, str(folder))


def test_an_adapter_that_is_not_active_shows(worker):
    model, _, folder = worker
    assert "has not activated" in adapter_problem(model, 8, str(folder))
    assert adapter_problem(model, 3, str(folder)) != ""  # another adapter's slot


class Packed(nn.Module):
    """A linear layer of vLLM's CPU build: its weights are in the kernel's hands only."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, dtype=weight.dtype), requires_grad=False)
        self.cpu_linear, self.kernel = True, weight
        self.quant_method = SimpleNamespace(apply=lambda layer, x, bias: x @ layer.kernel.T)


class Plain(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hub_names", [False, True])
def test_whole_weights_are_compared_in_whatever_form_they_lie(dtype, hub_names, tmp_path):
    torch.manual_seed(1)
    parts = {leaf: random(HIDDEN, HIDDEN).to(dtype) for leaf in (*ATTENTION, "o_proj")}
    norm, embeddings = random(HIDDEN).to(dtype), random(5, HIDDEN).to(dtype)
    root = "model" if hub_names else "model.language_model"
    saved = {f"{root}.layers.0.self_attn.{leaf}.weight": w for leaf, w in parts.items()}
    saved |= {f"{root}.norm.weight": norm, f"{root}.embed_tokens.weight": embeddings}
    saved["visual.blocks.0.attn.proj.weight"] = random(2, 2)
    save_file(saved, tmp_path / "model.safetensors")

    model = nn.Module()
    model.language_model = nn.Module()
    model.language_model.model = inner = nn.Module()
    inner.layers = nn.ModuleList([nn.Module()])
    inner.layers[0].self_attn = attention = nn.Module()
    attention.qkv_proj = Packed(torch.cat([parts[leaf] for leaf in ATTENTION]))
    attention.o_proj = Plain(parts["o_proj"])
    inner.norm, inner.embed_tokens = Plain(norm), Plain(torch.cat([embeddings, embeddings[:2]]))
    assert weights_problem(model, str(tmp_path)) == ""

    attention.qkv_proj.kernel = attention.qkv_proj.kernel.clone()
    attention.qkv_proj.kernel[9, 3] *= 1 + 2 * torch.finfo(dtype).eps
    assert "qkv_proj does not hold the weight" in weights_problem(model, str(tmp_path))
    del attention.qkv_proj
    assert "no module took" in weights_problem(model, str(tmp_path))


def test_each_rank_of_tensor_parallel_holds_its_share():
    q, k, v = random(8, 4), random(2, 4), random(2, 4)
    kinds = {"tp_size": 4, "num_kv_head_replicas": 2}  # two key-value heads on four ranks
    for rank in range(4):
        module = SimpleNamespace(tp_rank=rank, **kinds)
        share = own_share(module, [q, k, v])
        rows = slice(2 * rank, 2 * rank + 2)
        head = slice(rank // 2, rank // 2 + 1)
        assert torch.equal(share, torch.cat([q[rows], k[head], v[head]]))
    row = SimpleNamespace(tp_rank=1, tp_size=2, input_is_parallel=True)
    assert torch.equal(own_share(row, [q]), q[:, 2:])
