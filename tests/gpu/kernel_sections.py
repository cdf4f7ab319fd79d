"""Sections of learner_bench about parts of the pass: logits, LoRA layers, attention."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from geoagent_rl.grpo.batching import MicroBatch, collate
from geoagent_rl.grpo.logprobs import selective_logprobs
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.policy.attention import flex
from geoagent_rl.policy.lora import added_forward
from geoagent_rl.policy.rows import visible, visible_blocks
from tests.gpu.learner_load import BF16, LORA, Load
from tests.gpu.measuring import Mark, relative

HEADS, KV_HEADS, HEAD_DIM = 28, 4, 128  # of the 7B's attention
AGREE = 0.02  # relative difference of two attention kernels in bfloat16


def logits(load: Load) -> None:
    """selective_logprobs by chunk size, with and without entropy; and TRL's kernel."""
    shape, temperature = load.shape, load.config.rollout.temperature
    head = nn.Linear(shape.hidden, shape.vocab, bias=False, device=load.device, dtype=BF16)
    head.requires_grad_(False)
    hidden = load.normal(load.size.logits, shape.hidden, requires_grad=True)
    targets = torch.randint(shape.vocab, hidden.shape[:1], device=load.device)
    for power in load.size.chunks:
        given = hidden, head, targets, shape.vocab, temperature, load.banned, 2**power

        for entropy in (True, False):

            def work(given: Any = given, entropy: bool = entropy) -> Tensor:
                return selective_logprobs(*given, entropy=entropy)[0].sum()

            case = f"2^{power}" + ", no entropy" * (not entropy)
            load.results.record("logits", case, **load.gradient(work, [hidden])[0])
    kernel = importlib.import_module("trl.kernels").ChunkedLogProbFunction
    # called as GRPOTrainer calls it
    rest = head.weight, None, targets, temperature, 32768, None, 1.0, ("log_probs", "entropy")
    found = load.gradient(lambda: kernel.apply(hidden, *rest)[0].sum(), [hidden])[0]
    load.results.record("logits", "TRL's kernel, with entropy", **found)


def lora(load: Load) -> None:
    """The seven linear maps of one layer: PEFT's form with adapters of two dtypes, the learner's
    (float32 adapters, added by the product), and the base alone."""
    sizes = load.shape.linears
    maps = [nn.Linear(a, b, bias=False, device=load.device, dtype=BF16) for a, b in sizes]
    named = {f"map{i}": layer for i, layer in enumerate(maps)}
    holder = nn.ModuleDict(named).requires_grad_(False)
    config = LoraConfig(**LORA, target_modules=list(holder))
    layers = list(inject_adapter_in_model(config, holder).values())
    adapters = [nn.init.normal_(p, 0, 0.01) for p in holder.parameters() if p.requires_grad]
    peft = nn.Module.__call__
    ways: dict[str, tuple[Callable[[Any, Tensor], Tensor], torch.dtype]] = {
        "peft": (peft, BF16),
        "peft32": (peft, torch.float32),
        "added": (added_forward, torch.float32),
        "base": (lambda layer, x: layer.base_layer(x), torch.float32),
    }
    for tokens in load.size.lora:
        inputs = [load.normal(1, tokens, a, requires_grad=True) for a, _ in sizes]
        outer, found, results = [load.normal(1, tokens, b) for _, b in sizes], {}, {}
        for way, (form, dtype) in ways.items():
            for p in adapters:
                p.data = p.data.to(dtype)

            def work(form: Any = form, inputs: list[Tensor] = inputs) -> list[Tensor]:
                return [form(m, x) for m, x in zip(layers, inputs, strict=True)]

            trained = inputs + adapters * (way != "base")
            values, (out, grads) = load.gradient(work, trained, outer, f"{way}_")
            found, results[way] = found | values, (*out, *grads)
        gap = relative(results["added"], results["peft32"])
        load.results.record("lora", f"{tokens} tokens", **found, added_against_peft=gap)


def attention(load: Load) -> None:
    """Rows of a prompt and several completions: additive mask, plain causal, flex attention."""
    for length in load.size.rows:
        row, completions = one_row(load, length)
        found: dict[str, Any] = {}
        results = {}
        dtype = BF16 if load.cuda else torch.float32  # torch refuses flex's backward on CPUs
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
    return collate([[samples]], [""], -1, 0).to(load.device), len(samples)


def attention_ways(
    load: Load, row: MicroBatch, dtype: torch.dtype
) -> tuple[dict[str, Callable[..., Tensor]], dict[str, float]]:
    """The kernels by name, and what making their masks costs."""
    module = SimpleNamespace(num_key_value_groups=HEADS // KV_HEADS, is_causal=True)
    packed = flex(load.device.type)

    def work(mark: Mark) -> None:
        visible(row, dtype)
        mark("mask")
        visible_blocks(row)
        mark("block")

    additive, blocks = visible(row, dtype), visible_blocks(row)
    ways = {
        "masked": lambda *qkv: sdpa_attention_forward(module, *qkv, additive)[0],
        "causal": lambda *qkv: sdpa_attention_forward(module, *qkv, None)[0],
        "flex": lambda *qkv: packed(*qkv, block_mask=blocks, enable_gqa=True).transpose(1, 2),
    }
    return ways, load.measure(work)
