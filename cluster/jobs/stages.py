"""The steps of the method as coroutines on a running session: data, base policy, SFT, evaluation.

GRPO is reinforce.py's; `jobs.py` and `demo.py` put them in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster.launch import Session, Stack, learner
from geoagent_rl import sft as step_two
from geoagent_rl.config import Config
from geoagent_rl.data import manifest
from geoagent_rl.data.demonstrations import demonstrations
from geoagent_rl.data.sample import Sample
from geoagent_rl.evaluation.locate import Prediction, locate
from geoagent_rl.evaluation.predictions import from_rows
from geoagent_rl.evaluation.summary import summarise
from geoagent_rl.files import directory_at_once
from geoagent_rl.geo.gazetteer_file import cache_root
from geoagent_rl.grpo.schedule import sft_phase
from geoagent_rl.policy.checkpoint import checkpoint_dir
from geoagent_rl.recovery import RestartedEngine
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.run.directory import RunDir
from geoagent_rl.terminal import phase, progress, say
from geoagent_rl.tiny import scenes
from geoagent_rl.types import Sampling, UserError

SCENES = "scenes"  # as a manifest: rendered on the spot


def dataset(config: Config, run: RunDir, path: str, split: str) -> list[Sample]:
    """Return the samples at `path`; "scenes" renders split "sft", "train", "heldout" or
    "hidden".
    """
    if path == SCENES:
        n = getattr(config.scenes, split)
        # "sft" and "train" are disjoint parts of the train split; every seed has pictures of its
        # own.
        seed = 2 * config.run.seed + (split == "train")
        source = split if split in scenes.SPLITS else "train"
        folder = run.path / "data" / split
        with phase(f"rendering {n} scenes for {split}"):
            path = str(scenes.make(folder, n, seed, source, with_cot=split == "sft"))
    with phase(f"reading {path}"):
        return manifest.read(path, config.data.max_image_megapixels)


def tiny_base(config: Config) -> str:
    """Return the tiny policy before SFT: from the user's cache, or trained now."""
    import transformers  # seconds, which a run from a checkpoint does not need here

    from geoagent_rl.tiny import policy as tiny

    transformers.logging.disable_progress_bar()
    with progress("tiny base policy") as advance:
        return str(
            tiny.build(
                cache_root(), config.policy.tiny_seed, progress=lambda i, n, _: advance(i, n)
            )
        )


def starting_base(config: Config) -> str:
    """Return the checkpoint that policy.model names, or the tiny base below it. Call it outside any
    event loop, where Ctrl-C ends its minutes of training at once.
    """
    return (
        tiny_base(config)
        if config.policy.model in ("tiny", "tiny-base")
        else checkpoint(config.policy.model)
    )


def check_base(config: Config) -> None:
    """Check that policy.model is a checkpoint; make and load nothing. Raises UserError."""
    if config.policy.model not in ("tiny", "tiny-base"):
        checkpoint(config.policy.model)


def checkpoint(model: str) -> str:
    """Return `model`, a directory or a hub name. Raises UserError, before anything is started,
    where there is no such one."""
    try:
        checkpoint_dir(model)
    except OSError as error:
        raise UserError(
            f"no checkpoint {model}: give a directory with config.json and weights, or a Hugging Face model that can "
            f"be had from here ({str(error).splitlines()[0][:200]})"
        ) from None
    return model


def start_of(config: Config, base: str) -> str:
    """Return where GRPO and evaluation start: `base`, or for "tiny" that base after SFT on scenes,
    which may not have been made yet."""
    if config.policy.model != "tiny":
        return base
    recipe = repr(
        (config.sft, config.scenes.sft, config.policy, config.run.seed, scenes.ANNOTATORS)
    )
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return str(Path(base).with_name(f"{Path(base).name}-sft-{digest}"))


async def starting_policy(s: Session, run: RunDir, base: str) -> str:
    """Return `start_of`, made where it is missing: once, and cached."""
    start = Path(start_of(s.config, base))
    if str(start) != base and not start.exists():  # noqa: ASYNC240 (nothing else is going on yet)
        with directory_at_once(start, replace=False) as part:
            await cold_start(s, run, base, dataset(s.config, run, SCENES, "sft"), part)
    return str(start)


async def cold_start(
    s: Session, run: RunDir, model_dir: str, samples: Sequence[Sample], out: Path
) -> None:
    """Run Step II: LoRA SFT on the samples that have a CoT, in the form of policy.answer; writes
    the merged checkpoint to `out`."""
    c = s.config.sft
    shown = demonstrations(samples, s.config.policy.answer)
    steps = step_two.sft_steps(len(shown), c.epochs, c.batch_size)
    async with learner(s, model_dir, sft_phase(s.config, steps)) as group:
        with progress("SFT") as advance:

            def on_step(step: int, total: int, metrics: dict[str, Any]) -> None:
                run.append("sft_metrics.jsonl", [metrics])
                advance(step, total)

            await step_two.cold_start(
                group, shown, c.epochs, c.batch_size, s.config.run.seed, on_step
            )
        await group.save(str(run.path / "checkpoints" / "sft"))
        for problem in await group.save_problems(wait=True):
            say(f"warning: the checkpoint after SFT is missing: {problem}")
        await group.save_merged(str(out))


async def predict_on(
    config: Config,
    engines: Sequence[RestartedEngine],
    scorer: Scorer,
    samples: Sequence[Sample],
    keep: Callable[[Prediction], None],
    temperature: float | None = None,
    banned: tuple[int, ...] = (),
) -> int:
    """Call `keep` with the engines' prediction for each sample; return how many have none.
    temperature: in place of eval.temperature.
    """
    c, done = config.eval, 0
    at = c.temperature if temperature is None else temperature
    sampling = Sampling(c.completions, config.run.seed, at, banned)
    with progress("evaluation") as advance:

        def count(row: Prediction) -> None:
            nonlocal done
            keep(row)
            done += 1
            advance(done, len(samples))

        return await locate(samples, engines, scorer, sampling, config.rollout, count)


async def measure(
    config: Config,
    stack: Stack,
    run: RunDir,
    stage: str,
    split: str,
    samples: Sequence[Sample],
    temperature: float | None = None,
    banned: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Evaluate the engines' policy on `samples`; record the figures in eval.json under stage and
    split, and the predictions in RUN/predictions/STAGE-SPLIT.jsonl."""
    rows: list[Prediction] = []
    engines, scorer = stack.engines, stack.evaluation_scorer
    shown = samples[: config.eval.samples]
    left = await predict_on(config, engines, scorer, shown, rows.append, temperature, banned)
    if left:
        say(f"WARNING: {left} photographs of {stage}, {split} got no answer from the machinery")
    # In the order of the samples, not of their ends: figures that repeat to the last digit.
    place = {sample.uid: i for i, sample in enumerate(shown)}
    rows.sort(key=lambda row: place[row["uid"]])
    run.record_predictions(stage, split, rows)
    table = summarise(from_rows(stage, rows), config.eval.geoscore_scale_km) | {"unanswered": left}
    run.record_eval(stage, split, table)
    return table
