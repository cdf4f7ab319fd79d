"""Sections of learner_bench about parts of the pass: logits, LoRA layers, attention."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from geoagent_rl.grpo import logprobs as logprobs_module
from geoagent_rl.grpo.batching import MicroBatch, TrainSample, collate
from geoagent_rl.policy.rows import visible
from tests.gpu.learner_load import BF16, LORA, Load
from tests.gpu.measuring import Mark, relative

HEADS, KV_HEADS, HEAD_DIM = 28, 4, 128  # of the 7B's attention
AGREE = 0.02  # relative difference of two attention kernels in bfloat16


def without_entropy(
    hidden: Tensor, head: nn.Module, targets: Tensor, temperature: float, banned: Tensor
) -> tuple[Tensor, Tensor]:
    """chunk_logprobs, the entropy left out: what computing it costs."""
    scores = head(hidden).float().index_fill(-1, banned, logprobs_module.BANNED_LOGIT)
    chosen = (scores / temperature).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen, torch.zeros_like(chosen)


def logits(load: Load) -> None:
    """selective_logprobs by chunk size, with and without entropy; and TRL's kernel."""
    shape, temperature = load.shape, load.config.rollout.temperature
    head = nn.Linear(shape.hidden, shape.vocab, bias=False, device=load.device, dtype=BF16)
    head.requires_grad_(False)
    hidden = load.normal(load.size.logits, shape.hidden, requires_grad=True)
    targets = torch.randint(shape.vocab, hidden.shape[:1], device=load.device)
    for power in load.size.chunks:
        given = hidden, head, targets, shape.vocab, temperature, load.banned, 2**power

        def work(given: Any = given) -> Tensor:
            return logprobs_module.selective_logprobs(*given)[0].sum()

        load.results.record("logits", f"2^{power}", **load.gradient(work, [hidden])[0])
        with mock.patch.object(logprobs_module, "chunk_logprobs", without_entropy):
            found = load.gradient(work, [hidden])[0]
        load.results.record("logits", f"2^{power}, no entropy", **found)
    kernel = importlib.import_module("trl.kernels").ChunkedLogProbFunction
    # called as GRPOTrainer calls it
    rest = head.weight, None, targets, temperature, 32768, None, 1.0, ("log_probs", "entropy")
    found = load.gradient(lambda: kernel.apply(hidden, *rest)[0].sum(), [hidden])[0]
    load.results.record("logits", "TRL's kernel, with entropy", **found)


def with_addmm(layer: Any, x: Tensor) -> Tensor:
    """A LoRA layer as base and one fused product and sum."""
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return torch.addmm(layer.base_layer(x), x @ a.T, b.T, alpha=layer.scaling["default"])


def lora(load: Load) -> None:
    """The seven linear maps of one layer: PEFT's, base with addmm, and the base alone."""
    sizes = load.shape.linears
    maps = [nn.Linear(a, b, bias=False, device=load.device, dtype=BF16) for a, b in sizes]
    named = {f"map{i}": layer for i, layer in enumerate(maps)}
    holder = nn.ModuleDict(named).requires_grad_(False)
    config = LoraConfig(**LORA, target_modules=list(holder))
    layers = list(inject_adapter_in_model(config, holder).to(BF16).values())
    adapters = [nn.init.normal_(p, 0, 0.01) for p in holder.parameters() if p.requires_grad]
    ways: dict[str, Callable[[Any, Tensor], Tensor]] = {
        "peft": nn.Module.__call__,
        "addmm": with_addmm,
        "base": lambda layer, x: layer.base_layer(x),
    }
    for tokens in load.size.lora:
        inputs = [load.normal(tokens, a, requires_grad=True) for a, _ in sizes]
        outer, found, results = [load.normal(tokens, b) for _, b in sizes], {}, {}
        for way, form in ways.items():

            def work(form: Any = form, inputs: list[Tensor] = inputs) -> list[Tensor]:
                return [form(m, x) for m, x in zip(layers, inputs, strict=True)]

            trained = inputs + adapters * (way != "base")
            values, (out, grads) = load.gradient(work, trained, outer, f"{way}_")
            found, results[way] = found | values, (*out, *grads)
        gap = relative(results["addmm"], results["peft"])
        load.results.record("lora", f"{tokens} tokens", **found, addmm_against_peft=gap)


def attention(load: Load) -> None:
    """Rows of a prompt and several completions: additive mask, plain causal, flex attention."""
    for length in load.size.rows:
        row, completions = one_row(load, length)
        found: dict[str, Any] = {}
        results = {}
        dtype = BF16 if load.cuda else torch.float32  # flex has no backward on CPUs
        ways, masks = attention_ways(load, row, dtype)
        heads = (HEADS, KV_HEADS, KV_HEADS)
        qkv = [
            load.normal(1, length, n, HEAD_DIM, dtype=dtype, requires_grad=load.cuda) for n in heads
        ]
        outer = load.normal(1, length, HEADS, HEAD_DIM, dtype=dtype)
        for name, way in ways.items():

            def work(way: Any = way, qkv: list[Tensor] = qkv) -> Tensor:
                return way(*(t.transpose(1, 2) for t in qkv))

            trained = qkv if load.cuda else []
            values, (out, grads) = load.gradient(work, trained, outer, f"{name}_")
            found, results[name] = found | values, (out, *grads)
        error = relative(results["flex"], results["masked"])
        case = f"L={length}, {completions} in a row"
        agree = error < AGREE
        load.results.record("attention", case, **found, **masks, error=error, agree=agree)


def one_row(load: Load, length: int) -> tuple[MicroBatch, int]:
    """A row of `length` tokens: a prompt and completions of about 600; and how many those are."""
    prompt = min(400, 2 * length // 5)
    parts = max(2, round((length - prompt) / 600))
    ends = [int(x) for x in torch.linspace(prompt, length, 1 + parts)]
    samples = [TrainSample("", "", (1,) * prompt, (1,) * (b - a)) for a, b in pairwise(ends)]
    return collate(samples, [""], -1, 0, 10**9).to(load.device), len(samples)


def attention_ways(
    load: Load, row: MicroBatch, dtype: torch.dtype
) -> tuple[dict[str, Callable[..., Tensor]], dict[str, float]]:
    """The kernels by name, and what making their masks costs."""
    module = SimpleNamespace(num_key_value_groups=HEADS // KV_HEADS, is_causal=True)
    flex = torch.compile(flex_attention, dynamic=False) if load.cuda else flex_attention
    segments, length = row.segments[0], row.input_ids.shape[1]

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i >= j) & ((segments[j] == 0) | (segments[j] == segments[i]))

    block = partial(create_block_mask, seen, 1, None, length, length, load.device)

    def work(mark: Mark) -> None:
        visible(row, dtype)
        mark("mask")
        block()
        mark("block")

    additive, blocks = visible(row, dtype), block()
    ways = {
        "masked": lambda *qkv: sdpa_attention_forward(module, *qkv, additive)[0],
        "causal": lambda *qkv: sdpa_attention_forward(module, *qkv, None)[0],
        "flex": lambda *qkv: flex(*qkv, block_mask=blocks, enable_gqa=True).transpose(1, 2),
    }
    return ways, load.measure(work)
