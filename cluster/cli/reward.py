"""`geoagent-rl reward ...`: explain rewards, compare two configurations, weigh parts otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.data import Json
from geoagent_rl.terminal import moving
from geoagent_rl.types import UserError

reward_app = typer.Typer(help="Explain and compare rewards, offline.", no_args_is_help=True)
GROUPS = 50  # of --uid or --step that are shown side by side
CARDS = 20  # worst answers on a page, where --worst names no number

Completions = Annotated[Path, typer.Argument(help="Lines of {uid, completion, truth}.")]
Run = Annotated[Path, typer.Argument(help="A run directory.")]
JudgeOption = Annotated[
    str,
    typer.Option(
        "--judge",
        help="none, config (the judge section), tiny, smollm2 or a checkpoint; starts vLLM here.",
    ),
]
Step = Annotated[int | None, typer.Option("--step", min=1, help="Of a run: one step alone.")]


@reward_app.command("explain")
def reward_explain(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_FILE",
            help="A run directory, as recorded, or lines of {uid, completion, truth}, scored here.",
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Of a file: dotted overrides.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Of a file: a YAML file; default: the defaults.")
    ] = None,
    judge: JudgeOption = "none",
    worst: Annotated[
        int, typer.Option("--worst", min=0, help="Of a run: explain the N lowest rewards.")
    ] = 0,
    uid: Annotated[
        str, typer.Option("--uid", help="Of a run: one photograph, its answers side by side.")
    ] = "",
    step: Step = None,
    lost: Annotated[
        str,
        typer.Option(
            "--lost", help="Of a run: answers that lost points so, as in spatial or another one."
        ),
    ] = "",
    summary: Annotated[
        bool, typer.Option("--summary", help="Of a run, with --json: the account alone.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page.")] = None,
    as_json: Json = False,
) -> None:
    """Show how each reward came about: a file's, scored here, or a run's own recorded verdicts with
    the points lost by part and cause.
    """
    if source.is_dir():
        if overrides or config or judge != "none":
            raise UserError(
                "a run's recorded verdicts are shown as they are; to score its answers again, give "
                f"{source / 'rollouts.jsonl'}"
            )
        explain_run(source, worst, (uid, step, lost), summary, html, as_json)
        return
    if worst or uid or step or lost or summary:
        raise UserError("--worst, --uid, --step, --lost and --summary are for a run directory")
    from cluster.jobs.explain import explain_files
    from geoagent_rl.pages.explanation import show, write_explanation

    (rows,) = explain_files(source, [config], overrides or [], judge)
    if html:
        write_explanation(html, source, rows)
    for row in rows:
        print(json.dumps(row, ensure_ascii=False) if as_json else show(row))


def explain_run(
    path: Path,
    worst: int,
    wanted: tuple[str, int | None, str],
    only_summary: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Print a run's account and the verdicts asked for; as JSON the verdicts, one a line.

    wanted: photograph, step and loss of RecordedRun.verdicts.
    """
    from geoagent_rl.pages import run_explanation as page
    from geoagent_rl.rewards.recorded import look, open_run

    run = open_run(path)
    named = bool(wanted[0]) or wanted[1] is not None
    cards = max(worst, CARDS) if html else worst
    if as_json and not (worst or only_summary):
        for row in run.verdicts(*wanted):
            print(json.dumps(row, ensure_ascii=False))
        if not html:
            return
    with moving(lambda: f"reading {path}"):
        account, low, groups = look(run.verdicts(*wanted), cards, GROUPS if named else 0)
    if html:
        page.write_run_explanation(html, run, account, low, groups)
    if as_json:
        for row in [account] if only_summary else low[:worst]:
            print(json.dumps(row, ensure_ascii=False))
        return
    form = run.config.policy.answer
    shown = [page.show_group(group, form) for group in groups]
    shown += [page.show_verdict(row, form) for row in low[:worst]]
    print("\n\n".join([page.show_summary(run, account), *shown]))


@reward_app.command("compare")
def reward_compare(
    file: Completions,
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides of both.")] = None,
    config: Annotated[list[Path] | None, typer.Option("--config", help="Give it twice.")] = None,
    judge: JudgeOption = "none",
    as_json: Json = False,
) -> None:
    """Score completions by two configurations: totals, rank correlation, the largest
    differences.
    """
    from cluster.jobs.explain import explain_files
    from geoagent_rl.pages.explanation import show_comparison
    from geoagent_rl.rewards.explain import compare

    if config is None or len(config) != 2:
        raise UserError("two configurations are compared; give --config A.yaml --config B.yaml")
    table = compare(*explain_files(file, config, overrides or [], judge))
    table = {"configs": [str(path) for path in config]} | table
    print(json.dumps(table, ensure_ascii=False) if as_json else show_comparison(table))


@reward_app.command("reweigh")
def reward_reweigh(
    run: Run,
    weights: Annotated[
        list[str], typer.Argument(help="Weights of parts, as in spatial=1 consistency=2.")
    ],
    step: Step = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page.")] = None,
    as_json: Json = False,
) -> None:
    """Weigh a run's recorded scores otherwise, without training: which groups flip, and how far
    advantages move.
    """
    from geoagent_rl.pages.reweighing import show_reweighing, write_reweighing
    from geoagent_rl.rewards.reweigh import reweigh

    table = reweigh(run, dict(map(weight, weights)), step)
    if html:
        write_reweighing(html, table)
    print(json.dumps(table, ensure_ascii=False) if as_json else show_reweighing(table))


def weight(text: str) -> tuple[str, float]:
    """Read "part=weight". Raises UserError for anything else."""
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise UserError(f"{text}: write a part and its weight, as in spatial=1.5") from None
