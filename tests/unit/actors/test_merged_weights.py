"""Adapters merged into a vLLM worker's weights, on stand-ins for vLLM's layers.

Real engines: tests/stack/test_rollout.py."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from actors.merged_weights import MergedWeights
from geoagent_rl.policy.lora import merged_weight

HIDDEN, KEYS, RANK = 8, 4, 2
SHAPES = {
    "q_proj": (HIDDEN, HIDDEN),
    "k_proj": (KEYS, HIDDEN),
    "v_proj": (KEYS, HIDDEN),
    "o_proj": (HIDDEN, HIDDEN),
}


class Plain(nn.Module):
    """A linear layer as vLLM computes with it on a GPU."""

    def __init__(self, weight: Tensor, **kind: object) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=False)
        vars(self).update(kind)


class Packed(Plain):
    """One of vLLM's CPU build: its kernel has the weights in a form of its own."""

    cpu_linear = True

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.quant_method = SimpleNamespace(
            apply=lambda layer, x, bias: x @ layer.kernel,
            process_weights_after_loading=Packed.pack,
        )
        self.pack()

    def pack(self) -> None:
        self.kernel = self.weight.data.T.clone()
        self.weight.data = self.weight.data[:0]


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def base(request, tmp_path) -> dict[str, Tensor]:
    torch.manual_seed(0)
    found = {leaf: torch.randn(shape).to(request.param) for leaf, shape in SHAPES.items()}
    saved = {f"model.layers.0.self_attn.{leaf}.weight": w for leaf, w in found.items()}
    saved["model.layers.0.input_layernorm.weight"] = torch.ones(HIDDEN, dtype=request.param)
    (tmp_path / "base").mkdir()
    save_file(saved, tmp_path / "base" / "model.safetensors")
    return found


def adapter(folder: Path, leaves=SHAPES, seed: int = 1) -> dict[str, tuple[Tensor, Tensor]]:
    random, tensors, found = torch.Generator().manual_seed(seed), {}, {}
    for leaf in leaves:
        outputs, inputs = SHAPES.get(leaf, (HIDDEN, HIDDEN))
        a = torch.randn(RANK, inputs, generator=random)
        b = torch.randn(outputs, RANK, generator=random)
        name = f"base_model.model.model.language_model.layers.0.self_attn.{leaf}"
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        found[leaf] = a, b
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 3 * RANK}))
    return found


def model_of(qkv: nn.Module, o: nn.Module, dtype: torch.dtype) -> nn.Module:
    model, layer, attention = nn.Module(), nn.Module(), nn.Module()
    model.layers = nn.ModuleList([layer])
    layer.self_attn, layer.input_layernorm = attention, Plain(torch.ones(HIDDEN, dtype=dtype))
    attention.qkv_proj, attention.o_proj = qkv, o
    return model


def expected(base: dict[str, Tensor], factors) -> dict[str, Tensor]:
    """As an export has them."""
    return {leaf: merged_weight(base[leaf], a, b, 3.0) for leaf, (a, b) in factors.items()}


@pytest.mark.parametrize("kind", [Plain, Packed])
def test_many_merges_later_it_is_still_base_and_adapter(kind, base, tmp_path):
    fused = torch.cat([base[leaf] for leaf in ("q_proj", "k_proj", "v_proj")])
    qkv, o = kind(fused), kind(base["o_proj"])
    merged = MergedWeights(model_of(qkv, o, fused.dtype), str(tmp_path / "base"))
    for seed in range(20):
        factors = adapter(tmp_path / "adapter", seed=seed)
        assert merged.merge(str(tmp_path / "adapter")) == ""
    want = expected(base, factors)
    got = [m.kernel.T if kind is Packed else m.weight for m in (qkv, o)]
    assert torch.equal(got[0], torch.cat([want[x] for x in ("q_proj", "k_proj", "v_proj")]))
    assert torch.equal(got[1], want["o_proj"])


def test_layers_without_an_adapter_go_back_to_the_base(base, tmp_path):
    fused = torch.cat([base[leaf] for leaf in ("q_proj", "k_proj", "v_proj")])
    qkv, o = Plain(fused), Plain(base["o_proj"])
    merged = MergedWeights(model_of(qkv, o, fused.dtype), str(tmp_path / "base"))
    adapter(tmp_path / "all")
    merged.merge(str(tmp_path / "all"))
    adapter(tmp_path / "some", leaves=["o_proj"])
    assert merged.merge(str(tmp_path / "some")) == ""
    assert torch.equal(qkv.weight, fused) and not torch.equal(o.weight, base["o_proj"])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_of_two_merges_its_share(rank, base, tmp_path):
    def rows(w: Tensor) -> Tensor:
        return w.chunk(2)[rank]

    kinds = {"tp_size": 2, "tp_rank": rank}
    qkv = Plain(torch.cat([rows(base[x]) for x in ("q_proj", "k_proj", "v_proj")]), **kinds)
    o = Plain(base["o_proj"].chunk(2, 1)[rank], input_is_parallel=True, **kinds)
    merged = MergedWeights(model_of(qkv, o, o.weight.dtype), str(tmp_path / "base"))
    want = expected(base, adapter(tmp_path / "adapter"))
    assert merged.merge(str(tmp_path / "adapter")) == ""
    share = torch.cat([rows(want[x]) for x in ("q_proj", "k_proj", "v_proj")])
    torch.testing.assert_close(qkv.weight.data, share)
    torch.testing.assert_close(o.weight.data, want["o_proj"].chunk(2, 1)[rank])


def test_what_no_layer_takes_or_keeps_shows(base, tmp_path, monkeypatch):
    fused = torch.cat([base[leaf] for leaf in ("q_proj", "k_proj", "v_proj")])
    qkv, o = Plain(fused), Plain(base["o_proj"])
    merged = MergedWeights(model_of(qkv, o, fused.dtype), str(tmp_path / "base"))
    adapter(tmp_path / "adapter", leaves=[*SHAPES, "other_proj"])
    assert "no module took layers.0.self_attn.other_proj" in merged.merge(str(tmp_path / "adapter"))
    monkeypatch.setattr("actors.merged_weights.put", lambda module, weight: None)
    adapter(tmp_path / "adapter", seed=2)
    assert "qkv_proj does not hold" in merged.merge(str(tmp_path / "adapter"))
