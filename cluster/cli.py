"""The entry point `geoagent-rl`: geoagent_rl/cli.py's commands and those that start Ray.

The configuration is checked before anything heavy is imported, so a mistake shows at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from geoagent_rl.cli import Json, app, eval_app, run_app
from geoagent_rl.config import load

ConfigFile = Annotated[Path, typer.Option("--config", help="A YAML file; see configs/.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Dotted overrides, as in steps=20 rollout.engines=2.")]


@app.command()
def demo(
    overrides: Overrides = None,
    config: ConfigFile = Path("configs/local.yaml"),
    photos: Annotated[str, typer.Option(help="Also evaluate on this folder of real photographs with a CSV.")] = "",
) -> None:
    """The main job on a bare machine: data -> base -> SFT -> GRPO -> evaluation -> report."""
    settings = load(config, overrides or [])
    from cluster.demo import run_demo

    run_demo(settings, photos)


@app.command()
def sft(overrides: Overrides = None, config: ConfigFile = Path("configs/local.yaml")) -> None:
    """Step II: the LoRA cold start on samples with reasoning (sft.manifest); writes RUN/policy."""
    settings = load(config, overrides or [])
    from cluster.jobs import run_sft_job

    run_sft_job(settings)


@app.command()
def train(
    overrides: Overrides = None,
    config: ConfigFile = Path("configs/local.yaml"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in run.dir from its newest checkpoint.")
    ] = False,
) -> None:
    """Step III: GRPO with the spatial, semantic and consistency rewards; writes RUN/policy."""
    settings = load(config, overrides or [])
    from cluster.jobs import run_train_job

    run_train_job(settings, resume)


@eval_app.command("run")
def eval_run(
    overrides: Overrides = None,
    config: ConfigFile = Path("configs/local.yaml"),
    model: Annotated[str, typer.Option(help="Checkpoint directory; default: policy.model of the configuration.")] = "",
    as_json: Json = False,
) -> None:
    """Locate every photograph of data.eval_manifest with a checkpoint, and print hit rates and GeoScore."""
    settings = load(config, overrides or [])
    from cluster.jobs import run_eval_job

    table = run_eval_job(settings, model)
    print(json.dumps(table) if as_json else json.dumps(table, indent=1))


def main() -> None:
    run_app()
