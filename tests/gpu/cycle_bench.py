"""What the sections of engine_cycle share: a checkpoint, pictures, one engine and one learner.

May know the project's engine and learner as plain classes; nothing of Ray."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image

from actors.learner import Learner
from actors.rollout import BROKEN, RolloutEngine
from actors.vllm_engine import rollout_engine_args
from geoagent_rl.config import Config, load
from geoagent_rl.grpo.batching import Layout, micro_batches
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.grpo.schedule import grpo_phase
from geoagent_rl.types import PolicyVersion, Prompt, Rollout, Sampling, Truth
from tests.gpu.gaps import gaps
from tests.gpu.random_weights import save_checkpoint
from tests.gpu.results import ROOT, Results
from tests.gpu.shapes import shape_of
from tests.support import tiny_families

NOWHERE = Truth("", "", "", 0.0, 0.0)
SHARED_MEMORY = Path("/dev/shm")


def settings(asked: argparse.Namespace, model: Path, *more: str) -> Config:
    """The project's configuration for one GPU, or for a CPU, at the size asked for."""
    values = {
        "policy.model": model,
        "judge.model": "tiny",
        "steps": asked.rounds + 1,
        "run.seed": asked.seed,
        "rollout.group_size": asked.group,
        "rollout.prompts_per_step": asked.prompts,
        "rollout.max_tokens": asked.tokens,
        "learner.warmup_steps": 0,
        "learner.lr_end": 1.0,
    }
    file = ROOT / "configs" / f"{'single-gpu' if asked.device == 'cuda' else 'local'}.yaml"
    return load(file, [*(f"{key}={value}" for key, value in values.items()), *asked.set, *more])


def pictures(folder: Path, n: int, side: int, seed: int) -> list[Prompt]:
    """Write n different pictures, all of the same size."""
    found = []
    for i in range(n):
        path, bounds = folder / f"{i}.jpg", (-2.0, -1.2, 1.0 + (seed + i) / 9, 1.2)
        image = Image.effect_mandelbrot((side, side), bounds, 90)
        image.convert("RGB").save(path, quality=90)
        found.append(Prompt(f"p{i}", str(path), NOWHERE))
    return found


class Bench:
    """One engine and one learner over the sections; a section finds them ready, or makes them."""

    def __init__(self, asked: argparse.Namespace, results: Results) -> None:
        self.asked, self.results = asked, results
        self.cuda, self.lr = asked.device == "cuda", asked.lr
        shape = shape_of(asked.shape)
        need = 1.2 * shape.weight_bytes("float32")
        roomy = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > need
        root = str(SHARED_MEMORY) if roomy else None
        self.scratch = Path(tempfile.mkdtemp(prefix="engine-cycle-", dir=root))
        self.model = Path(asked.model) if asked.model else self.scratch / "model"
        self.engine: RolloutEngine | None = None
        self.learner: Learner | None = None
        self.previous: PolicyVersion | None = None  # the learner's before its newest step
        self.config = settings(asked, self.model)
        self.prompts = pictures(self.scratch, asked.prompts, asked.pixels, asked.seed)
        begin = time.monotonic()
        if asked.family:
            tiny_families.build(asked.family, self.model)
        elif not asked.model:
            save_checkpoint(self.model, shape, self.config, asked.device)
        results.record("start", "checkpoint", start_s=time.monotonic() - begin)

    async def close(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.engine is not None:
            await self.engine.stop()

    async def started(self, swap: str, eager: bool) -> RolloutEngine:
        """Start a new engine at version 0."""
        import vllm

        config = settings(self.asked, self.model, f"rollout.swap={swap}")
        engine, more = RolloutEngine(config, str(self.model)), {}
        if eager:
            more["enforce_eager"] = True
        args = lambda *given: rollout_engine_args(*given) | more  # noqa: E731
        with mock.patch("actors.rollout.rollout_engine_args", args):
            seconds = await engine.start()
        made = engine.engine.vllm_config
        blocks = made.cache_config.num_gpu_blocks or 0
        self.results.record(
            "start",
            f"engine, {swap}",
            start_s=seconds,
            kv_tokens=blocks * made.cache_config.block_size,
            eager=eager,
            vllm=vllm.__version__,
            v2_runner=getattr(made, "use_v2_model_runner", None),
        )
        return engine

    async def ready_engine(self) -> RolloutEngine:
        """The shared engine with the learner's weights; a new one where none works any more."""
        engine, learner = self.engine, self.learner
        if engine is not None and engine.asleep and not engine.engine.errored:
            await engine.engine.wake_up()  # a section ended between sleep and swap
            engine.asleep = False
            engine.open.set()
        if engine is not None and not works(engine):
            await engine.stop()
            engine = None
        if engine is None:
            engine = await self.started(self.config.rollout.swap, self.asked.eager)
        self.engine = engine
        if learner is not None and learner.updates:
            if learner.version.number != engine.version.number:
                await engine.swap(learner.version)
        return engine

    def ready_learner(self) -> Learner:
        if self.learner is None:
            begin, phase = time.monotonic(), grpo_phase(self.config)
            self.learner = Learner(self.config, str(self.model), phase, lambda files: files)
            self.results.record("start", "learner", start_s=time.monotonic() - begin)
        return self.learner

    def replayed(
        self, prompt: Prompt, rollouts: list[Rollout], layout: Layout
    ) -> list[list[float]]:
        """The learner's log-probabilities of completions, in rows as `layout` has them."""
        learner, found = self.ready_learner(), {}
        passes, usual = learner.passes, learner.passes.layout
        samples = [
            TrainSample(str(r.index), prompt.image, r.prompt_ids, r.completion_ids)
            for r in rollouts
        ]
        grids, features = learner.pictures.look([prompt.image], learner.sharded.device)
        sampling = self.config.rollout.temperature, passes.banned
        passes.layout = layout
        for rows in micro_batches(samples, layout):
            given = passes.inputs(rows, [prompt.image], grids)
            with torch.no_grad():
                values, _ = learner.policy(
                    given.batch, features, given.positions, *sampling, given.mask
                )
            order = [s for row in rows for block in row for s in block]
            for sample, row in zip(order, values.tolist(), strict=True):
                found[sample.uid] = row[: len(sample.completion_ids)]
        passes.layout = usual
        return [found[s.uid] for s in samples]

    def learner_gap(self, prompt: Prompt, rollouts: list[Rollout]) -> dict[str, Any]:
        """How far the learner, as it is now, lies from the engine that made the completions."""
        layout = self.ready_learner().passes.layout
        return gaps(self.replayed(prompt, rollouts, layout), [r.logprobs for r in rollouts])

    async def generate(
        self, engine: RolloutEngine, seed: int, prompts: list[Prompt], row: dict[str, Any]
    ) -> list[list[Rollout]]:
        """A group of each prompt, in order; notes their size and speed in `row`."""

        async def one(prompt: Prompt) -> list[Rollout]:
            found = [r async for r in engine.generate(prompt, Sampling(self.asked.group, seed))]
            return sorted(found, key=lambda r: r.index)

        begin, groups = time.monotonic(), await asyncio.gather(*map(one, prompts))
        seconds = time.monotonic() - begin
        values = [x for group in groups for r in group for x in r.logprobs]
        row["tokens"], row["tokens_s"] = len(values), len(values) / seconds
        row["mean_logprob"] = sum(values) / len(values)
        return groups


def works(engine: RolloutEngine) -> bool:
    healthy = not engine.engine.errored and engine.version.number != BROKEN
    return healthy and engine.open.is_set()
