"""Sections of learner_bench that run the learner's whole pass. Each is a function of a Load."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from actors.deepspeed_engine import ShardedModule, start_distributed, stop_distributed
from geoagent_rl.grpo.batching import Layout, micro_batches, padded_tokens
from geoagent_rl.policy.model import adapter_state, save_adapter
from tests.gpu.learner_load import Batches, Load
from tests.gpu.measuring import Mark, repeats, silent
from tests.gpu.results import GIB


def ceilings(load: Load) -> None:
    """What the device does at best: a large product and a large copy."""
    n = load.size.matmul
    a, b = load.normal(n, n), load.normal(n, n)
    source = torch.ones(load.size.copy, dtype=torch.uint8, device=load.device)

    def work(mark: Mark) -> None:
        torch.matmul(a, b)
        mark("matmul")
        source.clone()
        mark("copy")

    times = load.measure(work)
    load.ceiling = 2e3 * n**3 / times["matmul_ms"]
    copied = 2e-9 * len(source) / times["copy_ms"]
    load.results.record("ceilings", f"matmul {n}", TFLOP_s=load.ceiling / 1e12, copy_TB_s=copied)


def micro(load: Load) -> None:
    """A sample; a group in separate, shared and packed rows; without recompute; two groups."""
    budget = load.size.budgets[0]
    pair = [*load.group, *load.samples(8, number=1)]
    cases = [
        ("a one sample", "packed", load.group[:1], budget, True),
        ("b group, separate rows", "separate", load.group, budget, True),
        ("c group, masked rows", "shared", load.group, budget, True),
        ("d group, packed", "packed", load.group, budget, True),
        ("e as d, no recompute", "packed", load.group, budget, False),
        ("f two groups packed, no recompute", "packed", pair, 2 * budget, False),
        ("g as d, PEFT's form", "packed", load.group, budget, True),
    ]
    for case, kind, samples, tokens, checkpointing in cases:
        with load.results.guard("micro", case), load.pefts_form(case[0] == "g"):
            load.policy.zero_grad()
            layout = load.layout(kind, tokens)
            batches = micro_batches(samples, layout)
            work = partial(load.learner(kind, checkpointing=checkpointing), batches)
            row = beside_ceiling(load, batches, layout, load.measure(work))
            load.results.record("micro", case, **row)
            if case[0] in "de":
                found = load.profiled(work)
                busy = found["busy_ms"] / row["total_ms"]
                load.results.record("micro", f"{case[0]} profiled", busy_share=busy, **found)


def beside_ceiling(
    load: Load, batches: Batches, layout: Layout, times: dict[str, float]
) -> dict[str, Any]:
    """Speed of the measured passes beside the ceiling; the gradient's norm shows that they ran."""
    norm = nn.utils.clip_grad_norm_(load.policy.parameters(), math.inf)
    flops, tokens, completion = load.needed(batches)
    total = sum(v for k, v in times.items() if k.endswith("_ms"))
    share = {k: 1e3 * v / times[f"{k}_ms"] / load.ceiling for k, v in flops.items()}
    return {
        **times,
        "total_ms": total,
        "completion_tokens_s": 1e3 * completion / total,
        "gradient": float(norm) / sum(repeats(load.cuda)),
        "TFLOP": sum(flops.values()) / 1e12,
        "mfu": 1e3 * sum(flops.values()) / total / load.ceiling,
        "mfu_of": share,
        "tokens": tokens,
        "completion_tokens": completion,
        "padded": [padded_tokens(rows, layout) for rows in batches],
        "rows": [len(rows) for rows in batches],
    }


def host(load: Load) -> None:
    """Where a micro-batch waits for the device; the adapter to the host and to shared memory."""
    learn, policy = partial(load.learner(), load.wide[:1], silent), load.policy
    state = adapter_state(policy)
    learn()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load.gpu.set_sync_debug_mode("warn")
        learn()
        load.gpu.set_sync_debug_mode("default")
    waits = [w for w in caught if "called a synchronizing" in str(w.message)]
    places = Counter("/".join(Path(w.filename).parts[-2:]) + f":{w.lineno}" for w in waits)
    most = dict(places.most_common(15))
    load.results.record("host", "a group's passes", syncs=len(waits), places=most)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:

        def work(mark: Mark) -> None:
            adapter_state(policy)
            mark("to_host")
            save_adapter(policy, state, Path(folder))
            mark("write")

        times = load.measure(work)
    load.results.record("host", "adapter", **times, MB=sum(t.nbytes for t in state.values()) / 1e6)


def vision(load: Load) -> None:
    """The vision tower, called as the learner calls it."""
    for count in (1, 8):
        pixels = load.normal(count * math.prod(load.size.grid), 1176)

        def work(mark: Mark, pixels: Tensor = pixels, count: int = count) -> None:
            load.policy.image_features(pixels, load.grids.repeat(count, 1))
            mark("tower")

        case = f"{count} of {load.size.grid} patches"
        load.results.record("vision", case, **load.measure(work), **load.profiled(work))


def deepspeed(load: Load) -> None:
    """A micro-batch and a step: plain AdamW on the float32 adapter, and the learner's ZeRO 0."""
    plain_adamw(load)
    start_distributed(0, 1, "", gpu=load.cuda, timeout_s=120)
    try:
        held = load.gpu.memory_allocated() / GIB
        sharded = ShardedModule(load.policy, 0, (0.9, 0.999), 0.0, 1.0)
        learn = load.learner(engine=sharded.engine, backward=sharded.backward)

        def work(mark: Mark) -> None:
            learn(load.wide[:1], mark)
            sharded.step(1e-6, 1.0, False)
            mark("step")

        load.results.record(
            "deepspeed",
            "ZeRO 0",
            **load.measure(work),
            held_before_GiB=held,
            held_GiB=load.gpu.memory_allocated() / GIB,
            trainable=sum(p.numel() for p in load.policy.parameters() if p.requires_grad),
            applied=sharded.applied,
            norm=sharded.norm,
        )
    finally:
        stop_distributed()


def plain_adamw(load: Load) -> None:
    """The same without DeepSpeed: what a step costs at least."""
    own, learn = [p for p in load.policy.parameters() if p.requires_grad], load.learner()
    load.policy.zero_grad()
    adamw = torch.optim.AdamW(own, lr=1e-6)

    def work(mark: Mark) -> None:
        learn(load.wide[:1], mark)
        nn.utils.clip_grad_norm_(own, 1.0)
        adamw.step()
        adamw.zero_grad()
        mark("step")

    case, times = "plain AdamW", load.measure(work)
    load.results.record("deepspeed", case, **times, held_GiB=load.gpu.memory_allocated() / GIB)
