"""The steps of the method as coroutines on a running session: data, base policy, SFT, GRPO, evaluation.

`jobs.py` and `demo.py` put them in order.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import transformers
from torch.utils.tensorboard import SummaryWriter

from actors.learner_group import LearnerGroup
from cluster.launch import Session, Stack, learner
from cluster.progress import progress, say
from geoagent_rl import driver
from geoagent_rl import sft as step_two
from geoagent_rl.config import Config
from geoagent_rl.data import manifest, scenes
from geoagent_rl.evaluation.run import evaluate
from geoagent_rl.geo.gazetteer_build import cache_root
from geoagent_rl.grpo.schedule import grpo_phase, sft_phase
from geoagent_rl.policy import tiny
from geoagent_rl.rundir import RunDir
from geoagent_rl.telemetry import summary_line
from geoagent_rl.types import InfraError, Prompt, UserError

SCENES = "scenes"  # as a manifest: rendered on the spot


def dataset(config: Config, run: RunDir, path: str, split: str) -> list[manifest.Sample]:
    """The samples at `path`; "scenes" renders split "sft", "train", "heldout" or "hidden"."""
    if path == SCENES:
        n = getattr(config.scenes, split)
        # "sft" and "train" are disjoint parts of the train split; every seed has pictures of its own.
        seed = 2 * config.run.seed + (split == "train")
        source = split if split in scenes.SPLITS else "train"
        path = str(scenes.make(run.path / "data" / split, n, seed, source, with_cot=split == "sft"))
    return manifest.read(path, config.data.max_image_megapixels)


def tiny_base(config: Config) -> str:
    """The tiny policy before SFT: from the user's cache, or trained now."""
    transformers.logging.disable_progress_bar()
    with progress("tiny base policy") as advance:
        return str(tiny.build(cache_root(), config.policy.tiny_seed, progress=lambda i, n, _: advance(i, n)))


def starting_base(config: Config) -> str:
    """The checkpoint that policy.model names, or the tiny base below it. Call it outside any event loop, where Ctrl-C
    ends its minutes of training at once."""
    return tiny_base(config) if config.policy.model in ("tiny", "tiny-base") else config.policy.model


async def starting_policy(s: Session, run: RunDir, base: str) -> str:
    """Where GRPO and evaluation start: `base`, or for "tiny" that base after SFT on scenes, made once and cached."""
    if s.config.policy.model != "tiny":
        return base
    recipe = repr((s.config.sft, s.config.scenes.sft, s.config.policy, s.config.run.seed, scenes.ANNOTATORS))
    final = Path(base).parent / f"{Path(base).name}-sft-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not final.exists():
        part = Path(tempfile.mkdtemp(prefix=".tiny-sft-", dir=final.parent))
        await cold_start(s, run, base, dataset(s.config, run, SCENES, "sft"), part)
        part.rename(final) if not final.exists() else shutil.rmtree(part)
    return str(final)


async def cold_start(s: Session, run: RunDir, model_dir: str, samples: Sequence[manifest.Sample], out: Path) -> None:
    """Step II: LoRA SFT on the samples that have a CoT; writes the merged checkpoint to `out`."""
    c = s.config.sft
    demonstrations = [step_two.Demonstration(x.uid, x.image, x.cot) for x in samples if x.cot]
    steps = step_two.sft_steps(len(demonstrations), c.epochs, c.batch_size)
    async with learner(s, model_dir, sft_phase(s.config, steps)) as group:
        with progress("SFT") as advance:

            def on_step(step: int, total: int, metrics: dict[str, Any]) -> None:
                run.append("sft_metrics.jsonl", [metrics])
                advance(step, total)

            await step_two.cold_start(group, demonstrations, c.epochs, c.batch_size, s.config.run.seed, on_step)
        await group.save(str(run.path / "checkpoints" / "sft"))
        await group.save_merged(str(out))


async def reinforce(
    s: Session, on: Stack, run: RunDir, model_dir: str, samples: Sequence[manifest.Sample], resume: bool = False
) -> None:
    """Step III: GRPO from `model_dir`; writes metrics, rollouts, checkpoints and, in the end, RUN/policy."""
    config = s.config
    prompts = [x.prompt() for x in samples]
    async with learner(s, model_dir, grpo_phase(config)) as group:
        version, first, prompt = group.version, 0, 0
        if resume:
            newest = newest_checkpoint(run)
            version, first = await group.load(str(newest)), int(newest.name.removeprefix("step-"))
            prompt = json.loads((newest / "state.json").read_text()).get("prompts")
            run.truncate(first)
            say(f"resuming after step {first} from {newest}")
        if resume or on.model_dir != model_dir:
            await asyncio.gather(*(engine.swap(version) for engine in on.engines))
        if config.reward.geocoder.prewarm:
            failed = await on.services.prewarm(prompt.truth.levels for prompt in prompts)
            say(f"asked the reward services about the truths of {len(prompts)} prompts, {failed} failed")
        writer = SummaryWriter(str(run.path / "tensorboard"))
        done = first

        async def on_step(step: int, metrics: dict[str, Any], groups: Sequence[Any]) -> None:
            nonlocal done, prompt
            metrics |= await on.services.cache_metrics()
            run.record_step(metrics, groups)
            done, prompt = step, metrics["prompts"]
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            say(summary_line(step, config.steps, metrics))
            if step % config.run.save_every == 0 or step == config.steps:
                await group.save(str(run.checkpoint(step)), prompt)
                run.keep_last(config.run.keep_checkpoints)

        try:
            order = prompt_order(prompts, config.run.seed)
            await driver.train(config, order, on.engines, on.scorer, group, on_step, first, prompt)
        except BaseException:
            if done > first and not run.checkpoint(done).exists():
                await driver.uninterrupted(save_last(group, run, done, prompt))
            raise
        finally:
            writer.close()
        await group.save_merged(str(run.path / "policy"))


async def save_last(group: LearnerGroup, run: RunDir, step: int, prompts: int) -> None:
    """A checkpoint on the way out; says so when the learner can no longer give one."""
    try:
        await group.save(str(run.checkpoint(step)), prompts)
        say(f"saved {run.checkpoint(step)}; `train --resume run.dir={run.path}` continues from there")
    except InfraError as error:
        say(f"step {step} could not be saved: {error}")


def newest_checkpoint(run: RunDir) -> Path:
    if not run.checkpoints():
        raise UserError(f"nothing to resume: no complete checkpoint in {run.path / 'checkpoints'}")
    return run.checkpoints()[-1]


def prompt_order(prompts: Sequence[Prompt], seed: int) -> Callable[[int], Prompt]:
    """The i-th prompt of a run: every epoch is a permutation that depends on seed and epoch only."""
    if not prompts:
        raise UserError("the training manifest has no usable sample")
    epochs: dict[int, list[Prompt]] = {}

    def at(i: int) -> Prompt:
        epoch, position = divmod(i, len(prompts))
        if epoch not in epochs:
            epochs.clear()
            order = list(prompts)
            random.Random(f"prompts/{seed}/{epoch}").shuffle(order)
            epochs[epoch] = order
        return epochs[epoch][position]

    return at


async def measure(
    s: Session,
    on: Stack,
    run: RunDir,
    stage: str,
    split: str,
    samples: Sequence[manifest.Sample],
    temperature: float | None = None,
    banned: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Evaluates the engines' policy on `samples` and records it in eval.json under stage and split."""
    c = s.config.eval
    prompts = [x.prompt() for x in samples[: c.samples]]
    at = c.temperature if temperature is None else temperature
    table, _ = await evaluate(prompts, on.engines, on.judge_of_all, at, c.geoscore_scale_km, s.config.run.seed, banned)
    run.record_eval(stage, split, table)
    return table
