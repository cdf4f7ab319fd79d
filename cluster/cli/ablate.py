"""`geoagent-rl ablate`, attached to the command line by cluster/cli/main.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cluster import use_cluster_token
from cluster.environment import check_environment
from geoagent_rl.config import load
from geoagent_rl.config.packaged import packaged
from geoagent_rl.types import UserError

Number = TypeVar("Number", int, float)


def ablate(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Dotted overrides for all rows, as in steps=24.", show_default=False),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where everything goes; the same again continues it.")
    ] = Path("runs/ablation"),
    config: Annotated[
        Path, typer.Option(help="A YAML file; its policy.model is the base before SFT.")
    ] = Path("configs/local.yaml"),
    rows: Annotated[
        str, typer.Option(help="Names, comma-separated; default: every file in --rows-dir.")
    ] = "",
    rows_dir: Annotated[Path, typer.Option(help="Where the rows are defined.")] = Path(
        "configs/ablations"
    ),
    recipes: Annotated[
        str,
        typer.Option(help="Published recipes instead: all, or stems of files in configs/recipes."),
    ] = "",
    grid: Annotated[
        str,
        typer.Option(help="Also vary each reward weight by these factors, one at a time: 0.5,2."),
    ] = "",
    seeds: Annotated[
        str, typer.Option(help="Comma-separated; intervals need at least two.")
    ] = "0,1,2",
    jobs: Annotated[
        int, typer.Option(help="How many jobs at once; each has engines and services of its own.")
    ] = 1,
    address: Annotated[
        str,
        typer.Option(help="A Ray cluster's dashboard, http://host:8265: run as Ray jobs there."),
    ] = "",
) -> None:
    """Run the paper's ablation rows, a reward-weight grid or published recipes, over seeds: one
    table, one figure, the paper beside them."""
    from geoagent_rl.evaluation.ablations import choose, grid_rows, read_rows
    from geoagent_rl.evaluation.recipe_rows import recipe_rows

    settings = load(config, overrides or [])
    numbers = [_number(seed, int, "--seeds") for seed in seeds.split(",") if seed]
    factors = [_number(factor, float, "--grid") for factor in grid.split(",") if factor]
    chosen = []
    if rows or not recipes:
        chosen += choose(read_rows(packaged(rows_dir)), _names(rows))
    chosen += grid_rows(vars(settings.reward.weights), factors)
    if recipes:
        chosen += recipe_rows(settings, _names(recipes), packaged(Path("configs")))
    if address:
        use_cluster_token()
    else:
        check_environment(settings)
    from cluster.jobs.ablate import run_ablation

    print(run_ablation(settings, chosen, numbers, out, jobs, address))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _number(text: str, kind: Callable[[str], Number], option: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"{option}: {text!r} is no number; write {option} 0,1,2") from None
