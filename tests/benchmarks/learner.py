"""The learner beside a bare loop, its memory per option, and what shared vision features save.

    python -m tests.benchmarks.learner throughput    tokens/s: learner actor against PyTorch + PEFT
    python -m tests.benchmarks.learner memory        peak memory of a step per option
    python -m tests.benchmarks.learner vision        time and FLOPs with and without sharing

`throughput` takes turns, `memory` uses a fresh process for each option. Prints one JSON object.
Everything runs on one thread per process (OMP_NUM_THREADS=1 unless set).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault(
    "RAY_worker_niceness", "0"
)  # Ray's default, 15, would let everything else go first

import torch

from geoagent_rl.config import Config
from geoagent_rl.data.images import open_image
from geoagent_rl.grpo.advantages import group_advantages
from geoagent_rl.grpo.batching import Layout, blocks_of
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.grpo.schedule import grpo_phase
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import encode, load_processor
from geoagent_rl.policy.rows import attention_balance
from geoagent_rl.tiny import policy as tiny
from geoagent_rl.types import Group, Outcome, Prompt, Rollout, ScoredRollout, Truth
from tests.benchmarks.bare_loop import BareLoop, group_pass, one_image_samples
from tests.benchmarks.flops import SEVEN_B, Shape, counted, group_flops, shape_of
from tests.benchmarks.shapes import demo_policy
from tests.support import tiny_random


def groups_of(
    model: str, folder: Path, n: int, size: int, tokens: int, version: int = 0
) -> list[Group]:
    """n groups of random completions; lengths vary between half of `tokens` and all of it."""
    processor, found = load_processor(model), []
    for i in range(n):
        path = folder / f"{i}.png"
        picture = str(path) if path.exists() else tiny_random.picture(path, i, (112, 112))
        ids = encode(processor, open_image(picture), "tiny", 200_000).ids
        generator, samples = torch.Generator().manual_seed(i), []
        for k in range(size):
            length = int(torch.randint(tokens // 2, tokens + 1, (1,), generator=generator))
            completion = tuple(torch.randint(10, 200, (length,), generator=generator).tolist())
            rollout = Rollout(str(i), k, ids, completion, (), "", "stop", version)
            samples.append(ScoredRollout(rollout, {"format": Outcome("score", 0.0)}, float(k % 3)))
        prompt = Prompt(str(i), picture, Truth("", "", "", 0.0, 0.0))
        found.append(
            Group(prompt, tuple(samples), tuple(group_advantages([s.total for s in samples])))
        )
    return found


def at_version(groups: list[Group], version: int) -> list[Group]:
    def renewed(group: Group) -> Group:
        samples = tuple(
            replace(s, rollout=replace(s.rollout, version=version)) for s in group.samples
        )
        return replace(group, samples=samples)

    return [renewed(group) for group in groups]


async def throughput(rounds: int, folder: Path) -> dict:
    """Completion tokens per second of one step of 8 groups of 8: the actor, and two bare loops in
    this process.
    """
    import ray

    from actors.learner_group import LearnerGroup

    model, config = demo_policy(folder / "model"), Config(steps=100)
    config.learner.lr = 1e-4
    groups = groups_of(model, folder, 8, 8, 96)
    tokens = sum(len(s.rollout.completion_ids) for g in groups for s in g.samples)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    learner = await LearnerGroup.start(config, model, grpo_phase(config), False, "learner")
    bare = {kind: BareLoop(config, model, plain=kind == "plain") for kind in ("ours", "plain")}
    rates: dict[str, list[float]] = {
        "learner": [],
        "bare, our policy code": [],
        "bare, plain PEFT": [],
    }
    version = learner.version
    for number in range(rounds + 1):  # the first one warms up
        found = {}
        start = time.perf_counter()
        for group in at_version(groups, version.number):
            await learner.accumulate(group)
        version, _ = await learner.step()
        found["learner"] = time.perf_counter() - start
        for kind, name in (("ours", "bare, our policy code"), ("plain", "bare, plain PEFT")):
            start = time.perf_counter()
            bare[kind].step(groups)
            found[name] = time.perf_counter() - start
        if number:
            for name, seconds in found.items():
                rates[name].append(tokens / seconds)
    await learner.stop()
    ray.shutdown()
    out = {f"{name}: tokens/s": round(statistics.median(values)) for name, values in rates.items()}
    for name in list(rates)[1:]:
        ratios = [ours / theirs for ours, theirs in zip(rates["learner"], rates[name], strict=True)]
        out[f"ratio to {name}"] = round(statistics.median(ratios), 3)
    return out


# A larger model and longer completions than the demo's, so that the differences are larger than the
# noise.
WIDE = tiny.Recipe(
    hidden=512, layers=8, heads=8, kv_heads=2, mlp=1536, vision_depth=4, vision_width=192
)
OPTIONS: dict[str, dict[str, object]] = {
    "all at once": {},
    "micro_batch_tokens=700": {"micro_batch_tokens": 700},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "both": {"gradient_checkpointing": True, "micro_batch_tokens": 700},
    "zero_stage=2": {"zero_stage": 2},
    "zero_stage=3": {"zero_stage": 3},
    "plain PEFT, all at once": {"plain": True},
    "plain PEFT, micro_batch_tokens=700": {"plain": True, "micro_batch_tokens": 700},
}


def memory(folder: Path) -> dict:
    """Peak resident MB of one step (a group of 8, 256 tokens each) above what was resident before
    it; seconds.
    """
    demo_policy(folder / "model", WIDE)
    out = {}
    for name, option in OPTIONS.items():
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.learner",
            "one-memory",
            "--folder",
            str(folder),
            "--option",
            json.dumps(option),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        out[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, out[name], file=sys.stderr)
    return out


def one_memory(folder: Path, option: dict) -> dict:
    from actors.learner import Learner

    model, config = str(folder / "model"), Config(steps=100)
    config.learner.micro_batch_tokens = option.get("micro_batch_tokens", 2**20)
    config.learner.zero_stage = option.get("zero_stage", 0)
    config.policy.dtype = option.get("dtype", "float32")
    config.policy.gradient_checkpointing = option.get("gradient_checkpointing", False)
    (group,) = groups_of(model, folder, 1, 8, 256)
    if option.get("plain"):
        bare = BareLoop(config, model, plain=True)
    else:
        learner = Learner(config, model, grpo_phase(config))
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    start = time.perf_counter()
    if option.get("plain"):
        bare.step([group])
    else:
        learner.accumulate(group)
        learner.step()
    return {
        "MB": round(resident("VmHWM") - before),
        "seconds": round(time.perf_counter() - start, 1),
    }


def resident(name: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process in MB."""
    line = next(
        row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(name)
    )
    return int(line.split()[1]) / 1024


SEEING = tiny.Recipe(
    hidden=256,
    layers=4,
    heads=4,
    mlp=768,
    vision_depth=4,
    vision_width=48,
    image_pixels=896 * 896,  # 1024 image tokens
)
RANK, SAMPLES, TEXT = 16, 8, 400
WAYS = {  # name: (the picture is looked at once, completions share rows)
    "nothing shared": (False, False),
    "vision features": (True, False),
    "vision features and prompt": (True, True),
}


def vision(rounds: int, folder: Path) -> dict:
    """A group of 8 with 1024 image tokens and 400 text tokens a sample, forward and backward, KL
    reference included.

    The tiny model's vision tower does about the share of the work that the 7B's does. On the 7B 100
    of the text tokens are the prompt's, on the tiny model about 20."""
    model = demo_policy(folder / "model", SEEING, full_attention=[3])
    policy, processor = load_policy(model, lora=(RANK, 2 * RANK)).train(), load_processor(model)
    samples, prompt = one_image_samples(policy, processor, folder, SAMPLES, TEXT)
    balance = attention_balance(policy.network.config.text_config)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, (once, share) in WAYS.items():
            start = time.perf_counter()
            group_pass(policy, processor, samples, prompt, once, share)
            seconds[name].append(time.perf_counter() - start)
    out = {
        "tiny model, seconds": {
            name: round(statistics.median(v), 2) for name, v in seconds.items() if v
        }
    }
    shape, answer = shape_of(policy.network, RANK), len(samples[0].completion_ids)
    seven_b = [
        replace(s, prompt_ids=tuple(range(1124)), completion_ids=tuple(range(300))) for s in samples
    ]
    for name, s, rows, b in (
        ("tiny model", shape, samples, balance),
        ("7B", SEVEN_B, seven_b, SEVEN_B.balance),
    ):
        work = {
            way: flops_of(s, rows, once, b if share else 0) for way, (once, share) in WAYS.items()
        }
        out[f"{name}, TFLOP"] = {way: round(flops / 1e12, 3) for way, flops in work.items()}
        language = s.language(1024 + TEXT, answer, False, False)
        out[f"{name}, vision's share of a forward pass"] = round(
            s.vision(1024) / (s.vision(1024) + language), 3
        )
    policy.network.set_attn_implementation("eager")
    for share in (False, True):
        torch_says = counted(
            lambda on=share: group_pass(policy, processor, samples[:2], prompt, True, on)
        )
        formula = flops_of(shape, samples[:2], True, balance * share)
        out[f"formula / torch's counter, {'shared' if share else 'own'} rows"] = round(
            formula / torch_says, 3
        )
    return out


def flops_of(shape: Shape, samples: list[TrainSample], once: bool, balance: int) -> float:
    rows = [
        (len(block[0].prompt_ids), [len(s.completion_ids) for s in block])
        for block in blocks_of(samples, Layout(10**6, balance, share=balance > 0))
    ]
    return group_flops(shape, 1024, rows, looks=1 if once else 2 * len(samples))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("throughput", "memory", "vision", "one-memory"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--option", type=json.loads, default={})
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "throughput":
            found = asyncio.run(throughput(arguments.rounds, Path(folder)))
        elif arguments.what == "memory":
            found = memory(Path(folder))
        elif arguments.what == "vision":
            found = vision(arguments.rounds, Path(folder))
        else:
            found = one_memory(arguments.folder, arguments.option)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
