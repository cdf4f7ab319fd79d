"""The commands that train: sft and train. Each is one session; see steps.py for what they do."""

from __future__ import annotations

from pathlib import Path

from cluster.jobs.grpo import reinforce
from cluster.jobs.stages import cold_start, dataset, measure, starting_base, starting_policy
from cluster.launch import run_until_done, running_stack, session
from cluster.storage import on_storage
from geoagent_rl.config import Config
from geoagent_rl.pages.report import write_report
from geoagent_rl.run.directory import RunDir, changed_settings
from geoagent_rl.terminal import say


def run_sft_job(config: Config) -> None:
    """Step II alone: sft.manifest -> RUN/policy."""
    config = on_storage(config)
    run = RunDir.create(config)

    samples = dataset(config, run, config.sft.manifest or config.data.manifest, "sft")
    base = starting_base(config)

    async def work() -> None:
        async with session(config, run.path, only_learner=True) as s:
            await cold_start(s, run, base, samples, run.path / "policy")

    run_until_done(work())
    say(f"policy after SFT: {run.path / 'policy'}")


def run_train_job(config: Config, resume: bool) -> None:
    """Step III: data.manifest -> RUN/policy, evaluation before and after where data.eval_manifest
    is given, report.

    resume: continues the run in run.dir, wherever it was killed (see reinforce.py).
    """
    config = on_storage(config)
    if resume:
        for change in changed_settings(Path(config.run.dir), config):
            say(f"changed since the run was started: {change}")
    run = RunDir.create(config, resume)
    samples = dataset(config, run, config.data.manifest, "train")
    held = (
        dataset(config, run, config.data.eval_manifest, "heldout")
        if config.data.eval_manifest
        else []
    )
    base = starting_base(config)

    async def work() -> None:
        async with session(config, run.path) as s:
            model = await starting_policy(s, run, base)
            async with running_stack(s, model) as stack:
                if held and "sft" not in run.evaluations():
                    await measure(s.config, stack, run, "sft", "eval", held)
                await reinforce(s, stack, run, model, samples, held, resume)
                if held:
                    await measure(s.config, stack, run, "grpo", "eval", held)

    run_until_done(work())
    say(f"policy: {run.path / 'policy'}\nreport: {write_report(run.path)}")
