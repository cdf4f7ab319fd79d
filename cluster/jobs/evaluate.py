"""`eval run`: a checkpoint's predictions on a manifest, as a file that any `eval` command reads.
Resumable.

RUN/predictions.jsonl grows by a row per photograph; a second start with the same run.dir asks only
for the rest. RUN/predictions.json says what was asked, so that two checkpoints or settings never
share a file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from cluster.jobs.stages import (
    checkpoint,
    dataset,
    predict_on,
    starting_base,
    starting_policy,
)
from cluster.launch import run_until_done, running_stack, session, starting_engines
from cluster.storage import on_storage
from geoagent_rl.config import Config
from geoagent_rl.config.reward import RewardConfig, Weights
from geoagent_rl.data.sample import Sample
from geoagent_rl.evaluation.locate import Prediction
from geoagent_rl.evaluation.predictions import from_rows
from geoagent_rl.evaluation.summary import summarise
from geoagent_rl.files import keep_lines, write_json
from geoagent_rl.rewards.local import LocalPlaces
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import Services
from geoagent_rl.run.directory import RunDir
from geoagent_rl.run.log import logged
from geoagent_rl.run.records import record
from geoagent_rl.run.start import check_new
from geoagent_rl.terminal import phase, say
from geoagent_rl.types import AnswerForm, UserError

FILE, ABOUT = "predictions.jsonl", "predictions.json"


def run_eval_job(config: Config, model: str, judge: bool = True) -> tuple[Path, dict[str, Any]]:
    """Return (the prediction file, its summary) of one checkpoint on data.eval_manifest.

    Without `judge` only the engines start, on Ray; places are looked up in the offline gazetteer of
    this process."""
    if not config.data.eval_manifest:
        raise UserError(
            "data.eval_manifest must be given: a manifest, or a folder of photographs with a CSV"
        )
    config = on_storage(config)
    run = RunDir(config.run.dir)
    with run.exclusive():
        return evaluated(config, run, model, judge)


def evaluated(config: Config, run: RunDir, model: str, judge: bool) -> tuple[Path, dict[str, Any]]:
    """Do what `run_eval_job` does under the run's lock."""
    if not (run.path / ABOUT).exists():  # where it does, `open_file` compares
        check_new(run, config, *filter(None, [model]))
    samples = dataset(config, run, config.data.eval_manifest, "heldout")
    if len(samples) > config.eval.samples:
        say(
            f"the first {config.eval.samples} of {len(samples)} photographs; "
            f"eval.samples={len(samples)} takes all"
        )
    samples = samples[: config.eval.samples]
    base = checkpoint(model) if model else starting_base(config)
    asked = {
        "model": str(Path(base).resolve()) if Path(base).exists() else base, "judge": judge,
        "manifest": config.data.eval_manifest, **dataclasses.asdict(config.eval),
        "seed": config.run.seed,
    }  # fmt: skip
    # More photographs, or another scale, go on with the same rows.
    del asked["samples"], asked["geoscore_scale_km"]
    todo = open_file(run, asked, samples)
    run.begin(config)
    done = len(samples) - len(todo)
    say(f"{len(samples)} photographs" + (f", {done} done before" if done else ""))
    left = 0
    if todo:
        with logged(run.path):
            left = run_until_done(predict(config, run, base, model, todo, judge))
            run.settle()
    if left:
        say(
            f"{left} photographs got no answer from the machinery; "
            f"run again with run.dir={run.path} to ask for them"
        )
    predictions = from_rows(run.path.name, run.rows(FILE))
    table = summarise(predictions, config.eval.geoscore_scale_km) | {"unanswered": left}
    run.record_eval("eval", "eval", table)
    return run.path / FILE, table


def open_file(run: RunDir, asked: dict[str, Any], samples: list[Sample]) -> list[Sample]:
    """Return the samples that the file in the run directory has no row of. Raises UserError when it
    is of something else.
    """
    about, file = run.path / ABOUT, run.path / FILE
    if about.exists() and json.loads(about.read_text()) != json.loads(json.dumps(asked)):
        before = json.loads(about.read_text())
        other = ", ".join(key for key in asked if before.get(key) != asked[key])
        raise UserError(f"{file} holds predictions with another {other}; give another run.dir")
    write_json(about, asked)
    if file.exists():  # without lines that a kill or a power cut tore
        keep_lines(file, lambda line: line.endswith(b"\n") and record(line) is not None)
    done = {row["uid"] for row in run.rows(FILE)}
    return [s for s in samples if s.uid not in done]


async def predict(
    config: Config, run: RunDir, base: str, model: str, todo: list[Sample], judge: bool
) -> int:
    """Append a row for each of `todo` to the prediction file; return how many have none."""

    def keep(row: Prediction) -> None:
        run.append(FILE, [row])

    # a judge that is not asked is not downloaded
    needed = config.judge if judge else dataclasses.replace(config.judge, model="tiny")
    async with session(dataclasses.replace(config, judge=needed), run.path) as s:
        checkpoint = model or await starting_policy(s, run, base)
        if judge:
            async with running_stack(s, checkpoint) as stack:
                return await predict_on(config, stack.engines, stack.evaluation_scorer, todo, keep)
        async with starting_engines(s, checkpoint) as (engines, starting):
            scorer = places_scorer(config.reward, config.policy.answer)
            with phase(f"waiting for {len(engines)} rollout engines"):
                await starting
            return await predict_on(config, engines, scorer, todo, keep)


def places_scorer(config: RewardConfig, form: AnswerForm) -> Scorer:
    """Return a scorer of places and names in this process, by the offline gazetteer; it scores no
    reasoning.
    """
    (places,) = LocalPlaces.open(config)
    weights = Weights(consistency=0.0)
    reward = dataclasses.replace(config, weights=weights, schedules=())
    return Scorer(Services(places, places, None), reward, form)
