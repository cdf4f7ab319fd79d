"""The commands about clusters: plan, submit, jobs. Attached by cluster/cli/main.py; heavy imports
are inside.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.data import Json
from cluster.cli.local import app
from geoagent_rl.config import load
from geoagent_rl.types import UserError

jobs_app = typer.Typer(help="Jobs on a Ray cluster: list, follow, stop.", no_args_is_help=True)
app.add_typer(jobs_app, name="jobs")

ConfigFile = Annotated[Path, typer.Option("--config", help="A YAML file; see configs/.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Dotted overrides, as in rollout.engines=2.")
]
Address = Annotated[
    str,
    typer.Option(
        help="http://HEAD:8265; default: RAY_API_SERVER_ADDRESS or RAY_ADDRESS.", show_default=False
    ),
]
JobId = Annotated[str, typer.Argument(help="As `jobs list` shows it.")]


@app.command()
def plan(
    overrides: Overrides = None,
    config: ConfigFile = Path("configs/local.yaml"),
    completion_tokens: Annotated[
        float,
        typer.Option(
            help="Mean length of a completion; default: from the SFT texts, or a share of the limit."
        ),
    ] = 0.0,
    cache_hits: Annotated[
        float, typer.Option(min=0, max=1, help="Share of geocodes that the cache answers.")
    ] = 0.5,
    prompts: Annotated[
        int, typer.Option(help="Size of an epoch; default: rows of data.manifest, else all steps.")
    ] = 0,
    nodes: Annotated[
        str, typer.Option(help="Nodes x GPUs that there are, as in 1x8: does the run fit?")
    ] = "",
    measured: Annotated[
        Path | None,
        typer.Option(
            help="Constants from what tests/gpu measured on a card, as docs/gpu.jsonl; default: the package's."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether it fits: GPU memory per role, bundles, tokens and API calls, cost, step time.
    Needs no cluster."""
    from geoagent_rl.geo.providers import with_keys_there
    from geoagent_rl.plan.estimate import make_plan
    from geoagent_rl.plan.text import show

    settings = load(config, overrides or [])
    settings.reward.geocoder = with_keys_there(settings.reward.geocoder, os.environ)
    made = make_plan(settings, completion_tokens, cache_hits, prompts, nodes, measured)
    print(json.dumps(made, indent=1) if as_json else show(made))


@app.command()
def submit(
    overrides: Overrides = None,
    config: ConfigFile = Path("configs/paper.yaml"),
    command: Annotated[
        str, typer.Option(help="train, 'train --resume', sft, 'eval run' or demo.")
    ] = "train",
    address: Address = "",
    working_dir: Annotated[
        Path, typer.Option(help="The folder to upload: code and configurations.")
    ] = Path(),
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="NAME or NAME=VALUE for the job; never a secret."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show its output until it ends.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything; submit nothing.")
    ] = False,
) -> None:
    """Check a run and submit it to a Ray cluster as a job. Prints its id."""
    from cluster import submit as jobs

    ready = jobs.submission(
        command, config, overrides or [], working_dir, jobs.forwarded(env or [], os.environ)
    )
    if dry_run:
        print(json.dumps(ready, indent=1))
        return
    server = jobs.client(address)
    try:
        job_id = jobs.hand_in(server, **ready)
    except RuntimeError as error:
        raise UserError(
            f"the job server did not take the job: {' '.join(str(error).split())[:200]}"
        ) from None
    print(job_id, flush=True)
    if follow:
        watch(server, job_id)


@jobs_app.command("list")
def jobs_list(address: Address = "", as_json: Json = False) -> None:
    """List the cluster's submitted jobs, newest first."""
    from cluster import submit as jobs

    for row in jobs.table(jobs.client(address)):
        line = f"{row['id']}  {row['status']:<9}  {row['started'] or '-':<16}  {row['run_dir']}"
        print(json.dumps(row) if as_json else line)


@jobs_app.command("follow")
def jobs_follow(job_id: JobId, address: Address = "") -> None:
    """Show a job's output until it ends."""
    from cluster import submit as jobs

    watch(jobs.client(address), job_id)


@jobs_app.command("stop")
def jobs_stop(job_id: JobId, address: Address = "") -> None:
    """Stop a job: it saves a checkpoint and takes its actors down; waits for that."""
    from cluster import submit as jobs

    server = jobs.client(address)
    try:
        server.stop_job(job_id)
    except RuntimeError as error:
        raise UserError(f"job {job_id}: {' '.join(str(error).split())[:200]}") from None
    print(asyncio.run(jobs.ended(server, job_id, jobs.STOP_WAIT_S + 20)))


def watch(server: object, job_id: str) -> None:
    """Follow a job; exit code 0 only if it succeeds. Ctrl-C leaves the job running."""
    from cluster import submit as jobs

    try:
        status = asyncio.run(jobs.follow(server, job_id))
    except RuntimeError as error:
        raise UserError(f"job {job_id}: {' '.join(str(error).split())[:200]}") from None
    except KeyboardInterrupt:
        print(f"\n{job_id} goes on; `geoagent-rl jobs stop {job_id}` ends it", file=sys.stderr)
        raise
    print(f"{job_id}: {status}", file=sys.stderr)
    raise typer.Exit(0 if status == "SUCCEEDED" else 1)
