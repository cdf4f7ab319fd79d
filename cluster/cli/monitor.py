"""`geoagent-rl monitor`: serves the page until SIGINT (Ctrl-C) or SIGTERM, then exits with 130."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoagent_rl.network import hosts_answered, is_loopback, listen, url_of
from geoagent_rl.terminal import stop_with_130

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from cluster.monitor.runs import Runs

STOP_S = 1  # for answers under way when the monitor ends
DEFAULT_PORT = 3000  # where Ray looks for a Grafana unless told otherwise

VARIABLE, COOKIE = "GEOAGENT_MONITOR_TOKEN", "geoagent-monitor"
# Ray's head asks without a token whether there is a Grafana: the answer holds nothing of a run.
FREE = ("/api/health", "/api/v1/query")


def monitor(
    folder: Annotated[
        Path,
        typer.Argument(metavar="[RUNS_DIR|RUN_DIR]", help="The folder of your runs, or one run."),
    ] = Path("runs"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = DEFAULT_PORT,
    host: Annotated[
        str,
        typer.Option(
            help="The address to listen on; other machines reach it only if not loopback."
        ),
    ] = ("127.0.0.1"),
    attach: Annotated[
        str,
        typer.Option(
            "--attach",
            metavar="RUN",
            help="Also join a run that is going on: auto, its directory or its id.",
        ),
    ] = "",
) -> None:
    """Watch runs in a browser: curves, rollouts, caches, latencies; and inside the Ray dashboard
    (docs/monitor.md).
    """
    from cluster.monitor.runs import Runs

    serve(Runs(folder), host, port, attach)


def serve(runs: Runs, host: str, port: int, attach: str) -> None:
    """Serve the page until Ctrl-C."""
    import uvicorn

    from cluster.monitor.attached import Attached
    from cluster.monitor.server import application
    from geoagent_rl.access import Guarded, new_token

    stop_with_130()
    listener = listen(host, port)
    attached = Attached("" if attach == "auto" else attach) if attach else None
    url = url_of(host, listener)
    app: ASGIApp = application(runs, attached, hosts_answered(host))
    if not is_loopback(host):
        token = new_token(VARIABLE)
        app, url = Guarded(app, token, COOKIE, FREE), f"{url}/?token={token}"
        print(
            "warning: other machines reach this monitor, without encryption; the address below "
            "carries its token",
            file=sys.stderr,
        )
    print(f"{url}  (Ctrl-C ends it)", flush=True)
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=STOP_S
    )
    server = uvicorn.Server(settings)
    try:
        server.run(sockets=[listener])
    finally:
        if attached is not None:
            attached.close()
