"""`eval run`: a checkpoint's predictions on a manifest, as a file that any `eval` command reads.
Resumable.

RUN/predictions.jsonl grows by a row per photograph; a second start with the same run.dir asks only
for the rest. RUN/predictions.json says what was asked, so that two checkpoints or settings never
share a file."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cluster.jobs.stages import checkpoint, dataset, progress, say, starting_base, starting_policy
from cluster.launch import (
    Session,
    close_engines,
    engine_up,
    run_until_done,
    session,
    stack,
    supervised_engine,
)
from cluster.storage import on_storage
from geoagent_rl.config import Config
from geoagent_rl.config.reward import Weights
from geoagent_rl.data.manifest import Sample
from geoagent_rl.evaluation.locate import locate_all
from geoagent_rl.evaluation.predictions import read_predictions
from geoagent_rl.evaluation.summary import summarise
from geoagent_rl.files import keep_lines, write_json
from geoagent_rl.recovery import RestartedEngine
from geoagent_rl.rewards.local import LocalPlaces
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import LEVELS, Services
from geoagent_rl.run.directory import RunDir
from geoagent_rl.types import UserError

FILE = "predictions.jsonl"


def run_eval_job(config: Config, model: str, judge: bool = True) -> tuple[Path, dict[str, Any]]:
    """(the prediction file, its summary) of one checkpoint on data.eval_manifest.

    Without `judge` only the engines start, on Ray; places are looked up in the offline gazetteer of
    this process."""
    if not config.data.eval_manifest:
        raise UserError(
            "data.eval_manifest must be given: a manifest, or a folder of photographs with a CSV"
        )
    config = on_storage(config)
    run = RunDir.create(config)
    samples = dataset(config, run, config.data.eval_manifest, "heldout")
    if len(samples) > config.eval.samples:
        say(
            f"the first {config.eval.samples} of {len(samples)} photographs; eval.samples={len(samples)} takes all"
        )
    samples = samples[: config.eval.samples]
    base = checkpoint(model) if model else starting_base(config)
    asked = {
        "model": str(Path(base).resolve()) if Path(base).exists() else base, "judge": judge,
        "manifest": config.data.eval_manifest, **dataclasses.asdict(config.eval), "seed": config.run.seed,
    }  # fmt: skip
    del (
        asked["samples"],
        asked["geoscore_scale_km"],
    )  # more photographs, or another scale, go on with the same rows
    todo = open_file(run, asked, samples)
    say(f"{len(samples)} photographs, {len(samples) - len(todo)} done before" if len(todo) < len(samples) else
        f"{len(samples)} photographs")  # fmt: skip
    left = 0
    if todo:
        left = run_until_done(predict(config, run, base, model, todo, judge))
    if left:
        say(
            f"{left} photographs got no answer from the machinery; run again with run.dir={run.path} to ask for them"
        )
    table = summarise(read_predictions(run.path / FILE), config.eval.geoscore_scale_km)
    table["unanswered"] = left
    run.record_eval("eval", "eval", for_report(table))
    return run.path / FILE, table


def for_report(table: dict[str, Any]) -> dict[str, Any]:
    """The figures that the report of a run shows, under its names."""
    means = table["means"]
    flat = {
        name: value for name, value in table.items() if not isinstance(value, dict) or name == "hit"
    }
    named = {f"{level}_acc": means.get(f"right_{level}") for level in LEVELS}
    return {
        **flat,
        **named,
        "format_valid": means.get("format_valid"),
        "reward_consistency": means.get("consistency"),
    }


def open_file(run: RunDir, asked: dict[str, Any], samples: list[Sample]) -> list[Sample]:
    """The samples that the file in the run directory has no row of. Raises UserError when it is of
    something else.
    """
    about, file = run.path / "predictions.json", run.path / FILE
    if about.exists() and json.loads(about.read_text()) != json.loads(json.dumps(asked)):
        before = json.loads(about.read_text())
        other = ", ".join(key for key in asked if before.get(key) != asked[key])
        raise UserError(f"{file} holds predictions with another {other}; give another run.dir")
    write_json(about, asked)
    if file.exists():  # without a line that a kill tore
        keep_lines(file, lambda line: line.endswith(b"\n"))
    done = {row["uid"] for row in run.rows(FILE)}
    return [s for s in samples if s.uid not in done]


async def predict(
    config: Config, run: RunDir, base: str, model: str, todo: list[Sample], judge: bool
) -> int:
    async with session(config, run.path) as s:
        checkpoint = model or await starting_policy(s, run, base)
        async with (stack if judge else engines_only)(s, checkpoint) as on:
            with progress("evaluation") as advance:
                rows = 0

                def keep(row: dict[str, Any]) -> None:
                    nonlocal rows
                    run.append(FILE, [row])
                    rows += 1
                    advance(rows, len(todo))

                c = config.eval
                at_once = len(on.engines) * max(1, config.rollout.max_num_seqs // c.completions)
                return await locate_all(
                    todo,
                    on.engines,
                    on.judge_of_all,
                    c.completions,
                    c.temperature,
                    config.run.seed,
                    keep,
                    at_once,
                )


@dataclasses.dataclass
class Engines:
    """What evaluation needs of launch.Stack."""

    engines: list[RestartedEngine]
    judge_of_all: Scorer


@contextlib.asynccontextmanager
async def engines_only(s: Session, model_dir: str) -> AsyncIterator[Engines]:
    """Rollout engines without reward services: places and names are scored here, reasoning is
    not.
    """
    reward = dataclasses.replace(s.config.reward, weights=Weights(consistency=0.0))
    (places,) = LocalPlaces.open(reward)
    engines = [supervised_engine(s, i, model_dir) for i in range(s.config.rollout.engines)]
    try:
        await asyncio.gather(*(engine_up(engine.engine, s.config) for engine in engines))
        yield Engines(engines, Scorer(Services(places, places, None), reward))
    finally:
        await close_engines(engines)
