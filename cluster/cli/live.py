"""The commands on a run that is going on, scale and status, and the cluster demo.
cluster/cli/main.py adds them.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.data import Json
from cluster.environment import check_environment

Run = Annotated[
    str,
    typer.Option(
        "--run", help="The run's directory or id; default: the only one that is going on."
    ),
]


def scale(
    services: Annotated[
        list[str], typer.Argument(metavar="SERVICE=N...", help="geocoder=8 judge=2")
    ],
    run: Run = "",
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for the replicas; 0: do not wait.")
    ] = 120.0,
) -> None:
    """Change the number of reward replicas of a live run, without pausing it."""
    from cluster.running import joined, wanted_replicas

    wanted = wanted_replicas(services)
    with joined(run) as live:
        from cluster import scale as scaling

        for service, seconds in scaling.scale(live.run_id, wanted, timeout).items():
            print(f"{service}: {wanted[service]} replicas after {seconds:.1f} s")


def status(run: Run = "", as_json: Json = False) -> None:
    """Show what a live run consists of now: nodes, actors, replicas, newest step."""
    from cluster.running import joined

    with joined(run) as live:
        from cluster import status as state

        found = state.status(live.run_id, live.run_dir)
        print(json.dumps(found) if as_json else state.show(found))


def cluster_demo(
    run_dir: Annotated[
        str, typer.Option(help="Where the run goes; default: runs/cluster-demo-<time>.")
    ] = "",
) -> None:
    """Run on a small Ray cluster on this machine that is scaled and loses a node meanwhile."""
    from cluster.local_nodes import guarded

    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"):  # of another cluster
        os.environ.pop(name, None)
    check_environment()
    os.environ.update(guarded())  # before Ray is imported
    from cluster.jobs.cluster_demo import run_cluster_demo

    run_cluster_demo(
        Path(run_dir or f"runs/cluster-demo-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    )
