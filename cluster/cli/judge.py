"""`geoagent-rl judge ...`: a small judge from a large one's recorded verdicts."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.data import Json

judge_app = typer.Typer(help="Make judges of the reasoning.", no_args_is_help=True)


@judge_app.callback()
def judges() -> None:
    """Make judges of the reasoning."""


@judge_app.command("distil")
def judge_distil(
    runs: Annotated[list[Path], typer.Argument(help="Directories of runs with a large judge.")],
    out: Annotated[Path, typer.Option(help="The judge's directory, to be made: judge.model.")],
    start: Annotated[
        str,
        typer.Option(help="tiny, new (new weights of its shape) or a Qwen3 checkpoint."),
    ] = "tiny",
    steps: Annotated[int, typer.Option(min=10, help="Of 32 questions.")] = 1000,
    rate: Annotated[
        float,
        typer.Option(
            min=0, help="Highest learning rate; 0: 3e-4, for new 3e-3, for a checkpoint 2e-5."
        ),
    ] = 0.0,
    agreement: Annotated[
        float, typer.Option(min=0.5, max=1, help="What a cascade is to keep, as a share.")
    ] = 0.98,
    as_json: Json = False,
) -> None:
    """Train a small judge on recorded verdicts: its agreement, its calibration, and the share of
    questions that still goes up.
    """
    from cluster.jobs.distil import distil_judge, show

    with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed logs to stdout, which is the result's
        table = distil_judge(runs, out, start, steps, rate, agreement)
    print(json.dumps(table) if as_json else show(table, out, agreement))
