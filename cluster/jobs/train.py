"""The commands that train: sft and train. Each is one session, of steps in stages.py and grpo.py.

Lock, then checks, then writes: a start that is refused leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.jobs.grpo import reinforce
from cluster.jobs.stages import (
    check_base,
    cold_start,
    dataset,
    measure,
    start_of,
    starting_base,
    starting_policy,
)
from cluster.launch import run_until_done, running_stack, session
from cluster.storage import on_storage
from geoagent_rl.config import Config
from geoagent_rl.data.sample import Sample
from geoagent_rl.pages.closing import closing
from geoagent_rl.pages.report import write_report
from geoagent_rl.run import checkpoints
from geoagent_rl.run.directory import CONFIG, RunDir
from geoagent_rl.run.log import logged
from geoagent_rl.run.origin import check_origin, origin_kept, origin_of, weights_digest
from geoagent_rl.run.start import (
    changed_settings,
    check_new,
    check_resumed,
    nothing_left,
    settings_of,
)
from geoagent_rl.terminal import phase, say


def run_sft_job(config: Config) -> None:
    """Run Step II alone: sft.manifest -> RUN/policy."""
    config = on_storage(config)
    run = RunDir(config.run.dir)
    with run.exclusive():
        check_new(run, config)
        check_base(config)
        samples = dataset(config, run, config.sft.manifest or config.data.manifest, "sft")
        base = starting_base(config)
        run.begin(config)

        async def work() -> None:
            async with session(config, run.path, only_learner=True) as s:
                await cold_start(s, run, base, samples, run.path / "policy")

        with logged(run.path):
            run_until_done(work())
            run.settle()
            run.finish(0)
            say(f"policy after SFT: {run.path / 'policy'}\n{closing(run.path)}")


def run_train_job(config: Config, resume: bool, accept: bool = False) -> None:
    """Run Step III: data.manifest -> RUN/policy, evaluation before and after where
    data.eval_manifest is given, report.

    resume: continues the run in run.dir, wherever it was killed (see grpo.py); accept: also with
    other prompts or base weights (run/origin.py)."""
    config = on_storage(config)
    run = RunDir(config.run.dir)
    with run.exclusive():
        check_resumed(run, config) if resume else check_new(run, config)
        if resume and nothing_left(run, config):
            steps = run.finished_steps()
            say(f"{run.path} has done its {steps} steps: nothing is left; steps=N does more")
            return
        check_base(config)
        samples = dataset(config, run, config.data.manifest, "train")
        evaluation = config.data.eval_manifest
        held = dataset(config, run, evaluation, "heldout") if evaluation else []
        if resume:
            say_changes(run, config, samples, accept)
        base = starting_base(config)
        if resume:
            check_start(run, Path(start_of(config, base)), accept)
        run.begin(config)

        async def work() -> None:
            async with session(config, run.path) as s:
                model = await starting_policy(s, run, base)
                async with running_stack(s, model) as stack:
                    if held and "sft" not in run.evaluations():
                        await measure(s.config, stack, run, "sft", "eval", held)
                    await reinforce(s, stack, run, model, samples, held, resume, accept)
                    if held:
                        await measure(s.config, stack, run, "grpo", "eval", held)

        with logged(run.path):
            run_until_done(work())
            with phase("writing the report"):
                report = write_report(run.path)
            run.finish(config.steps)
            say(f"policy: {run.path / 'policy'}\nreport: {report}\n{closing(run.path)}")


def say_changes(run: RunDir, config: Config, samples: Sequence[Sample], accept: bool) -> None:
    """Name what a resumed run does otherwise. Raises UserError for other prompts or a base that is
    gone, unless `accept`: before the minutes that the engines take to start."""
    for change in changed_settings(settings_of(run.path / CONFIG), config):
        say(f"changed since the run was started: {change}")
    before = origin_kept(checkpoints.newest_state(run.path / "checkpoints"))
    check_origin(before, origin_of([x.prompt() for x in samples], config.run.seed), accept)


def check_start(run: RunDir, start: Path, accept: bool) -> None:
    """Raise UserError where the checkpoints' adapters belong to another base than `start`, unless
    `accept`. One that has still to be made or fetched is looked at then."""
    if start.is_dir():
        kept = origin_kept(checkpoints.newest_state(run.path / "checkpoints"))
        check_origin(kept, {"base": weights_digest(start)}, accept)
