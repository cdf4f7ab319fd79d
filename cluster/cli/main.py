"""All commands of `geoagent-rl`: cluster/cli/local.py's commands and those that start Ray.

The configuration is checked before anything heavy is imported, so a mistake shows at once.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import cluster.cli.jobs  # noqa: F401  attaches its commands
from cluster.cli.ablate import ablate
from cluster.cli.config import config_app
from cluster.cli.data import Json
from cluster.cli.evaluation import eval_app
from cluster.cli.judge import judge_app
from cluster.cli.live import cluster_demo, scale, status
from cluster.cli.local import app, run_app
from cluster.cli.monitor import monitor
from cluster.cli.recipes import recipes
from cluster.cli.reward import reward_app
from cluster.environment import check_environment
from cluster.storage import storage_root, with_run_dir
from geoagent_rl.config import Config, load
from geoagent_rl.metrics.line import duration
from geoagent_rl.run.start import holds_a_run, resumed_config
from geoagent_rl.terminal import moving, phase, say
from geoagent_rl.types import UserError

app.add_typer(reward_app, name="reward")
app.add_typer(judge_app, name="judge")
app.add_typer(config_app, name="config")
app.command()(scale)
app.command()(status)
app.command()(cluster_demo)
app.command()(monitor)
app.command()(ablate)
app.command()(recipes)

ConfigFile = Annotated[Path, typer.Option("--config", help="A YAML file; see configs/.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Dotted overrides, as in steps=20 rollout.engines=2.")
]


LIBRARIES = "loading Ray, torch and transformers"


@contextlib.contextmanager
def opened(config: Config, comes: str) -> Iterator[Config]:
    """Say where a run goes and what comes, before the libraries are loaded, which takes seconds;
    yield the configuration with that run directory. Until the end a log is never silent for long,
    also between two phases. UserError for an environment that would break the start.
    """
    check_environment(config)
    config = with_run_dir(config)
    say(f"run directory: {config.run.dir}")
    say(f"comes: data, base policy, Ray, engines and rewards, {comes}")
    say(f"watch: geoagent-rl monitor {shlex.quote(config.run.dir)}")
    with moving(lambda: "working"):
        yield config


def say_expected(config: Config) -> None:
    """Say how long GRPO will take by `geoagent-rl plan`, where that knows the model and the GPU."""
    from geoagent_rl.plan.estimate import make_plan

    with contextlib.suppress(UserError):
        time = make_plan(config)["time"]
        if time:
            total = duration(config.steps * time["step_seconds"])
            say(f"expected: {total}, an estimate (geoagent-rl plan); the live line knows better")


@app.command()
def demo(
    overrides: Overrides = None,
    config: ConfigFile = Path("configs/local.yaml"),
    photos: Annotated[
        str, typer.Option(help="Also evaluate on this folder of real photographs with a CSV.")
    ] = "",
) -> None:
    """Do the main job on a bare machine: data -> base -> SFT -> GRPO -> evaluation -> report."""
    settings = load(config, overrides or [])
    with opened(settings, "scenes, SFT, GRPO, evaluation, report") as settings:
        if not overrides:
            say("expected: 5 to 10 minutes on two cores (docs/benchmarks.md)")
        with phase(LIBRARIES):
            from cluster.jobs.demo import run_demo

        run_demo(settings, photos)


@app.command()
def sft(overrides: Overrides = None, config: ConfigFile = Path("configs/local.yaml")) -> None:
    """Run Step II: the LoRA cold start on samples with reasoning (sft.manifest); writes
    RUN/policy."""
    settings = load(config, overrides or [])
    with opened(settings, f"SFT of {settings.sft.epochs} epochs") as settings:
        with phase(LIBRARIES):
            from cluster.jobs.train import run_sft_job

        run_sft_job(settings)


class BareResume(TyperCommand):
    """Let `--resume` stand alone, for `--resume=yes`: typer knows no optional values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's words, `ctx` being typer's own context."""
        return super().parse_args(ctx, ["--resume=yes" if a == "--resume" else a for a in args])


def named_folder(file: Path, overrides: list[str]) -> Path:
    """Return the run directory of a configuration. Raises UserError where it names none."""
    folder = load(file, overrides).run.dir
    if not folder:
        raise UserError("--resume=auto needs a run.dir, the same at every start")
    return storage_root() / folder


@app.command(cls=BareResume)
def train(
    overrides: Overrides = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Default: configs/local.yaml; with --resume, the run's own."),
    ] = None,
    resume: Annotated[
        str,
        typer.Option(
            "--resume",
            metavar="[=auto]",
            help="Continue the run in run.dir from its newest whole checkpoint; "
            "--resume=auto starts it where none has begun.",
        ),
    ] = "",
    accept: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Continue although training photographs or base weights are others than before.",
        ),
    ] = False,
) -> None:
    """Run Step III: GRPO with the spatial, semantic and consistency rewards; writes RUN/policy."""
    if resume not in ("", "yes", "auto"):
        raise UserError(f"--resume={resume}: write --resume, or --resume=auto")
    words, file = overrides or [], config or Path("configs/local.yaml")
    goes_on = resume == "yes" or (resume == "auto" and holds_a_run(named_folder(file, words)))
    if goes_on and config is None:
        file = resumed_config(words, storage_root())
    settings = load(file, words)
    with opened(settings, f"GRPO of {settings.steps} steps, report") as settings:
        if settings.rollout.gpus_per_engine:
            say_expected(settings)
        with phase(LIBRARIES):
            from cluster.jobs.train import run_train_job

        run_train_job(settings, goes_on, accept)


@eval_app.command("run")
def eval_run(
    overrides: Overrides = None,
    config: ConfigFile = Path("configs/local.yaml"),
    model: Annotated[
        str, typer.Option(help="Checkpoint directory; default: policy.model of the configuration.")
    ] = "",
    manifest: Annotated[
        str, typer.Option(help="The photographs: short for data.eval_manifest=...")
    ] = "",
    judge: Annotated[
        bool, typer.Option(help="Also judge the reasoning's consistency (the judge section).")
    ] = True,
    as_json: Json = False,
) -> None:
    """Locate every photograph of a manifest with a checkpoint; a second start with the same run.dir
    goes on.
    """
    settings = load(
        config, [*(overrides or []), *([f"data.eval_manifest={manifest}"] if manifest else [])]
    )
    with opened(settings, f"at most {settings.eval.samples} photographs") as settings:
        with phase(LIBRARIES):
            from cluster.jobs.evaluate import run_eval_job
            from geoagent_rl.evaluation.text import show_score

        # DeepSpeed logs to stdout, which is the result's
        with contextlib.redirect_stdout(sys.stderr):
            file, table = run_eval_job(settings, model, judge)
    print(json.dumps(table) if as_json else "\n".join([*show_score(table), f"predictions: {file}"]))


def main() -> None:
    """Run `geoagent-rl`."""
    run_app()
