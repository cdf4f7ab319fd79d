"""`geoagent-rl submit` and `jobs`: a thin wrapper of Ray's job submission that refuses early what
would fail late.

Before anything is uploaded the configuration is checked, the upload is measured and environment
variables are looked at: values of secrets never travel with a job, because jobs, their environment
and their command lines can be seen in the dashboard. Whoever runs the cluster puts secrets into the
nodes' environment or files (geoagent_rl/secrets.py)."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster import use_cluster_token
from geoagent_rl.config import Config, load
from geoagent_rl.geo.providers import key_names, remote_names
from geoagent_rl.network import takes_connections
from geoagent_rl.secrets import REDIS_PASSWORD, looks_secret, names_a_secret
from geoagent_rl.types import UserError

COMMANDS = ("train", "train --resume", "train --resume=auto", "sft", "eval run", "demo")
# Patterns as in .gitignore. Data and runs belong on storage that all nodes see.
EXCLUDES = (
    "/.git",
    ".venv",
    "/data",
    "/runs",
    "checkpoints",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    "logs",
    # Secrets, wherever they lie: an upload is readable on every node and in the job's record.
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    "id_rsa*",
    "id_ed25519*",
    "id_ecdsa*",
    ".ssh",
    ".aws",
    ".netrc",
    "secrets/",
)
UPLOAD_LIMIT = 100 * 2**20  # bytes, of the request that Ray's dashboard takes
# Ray's words: a new cluster's job server answers before the agent that starts jobs
TOO_EARLY = "No available agent"
AGENT_WAIT_S = 90.0  # for that agent
CONNECT_S = 5.0
STOP_WAIT_S = 180  # between SIGTERM and SIGKILL: for the last checkpoint and for taking actors down
TOKEN_HELP = (
    "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file with the cluster's token (RAY_AUTH_MODE=disabled for a "
    "cluster without authentication)"
)


def submission(
    command: str, config: Path, overrides: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> dict[str, Any]:
    """Return the checked arguments of JobSubmissionClient.submit_job. Raises UserError in one line;
    uploads nothing."""
    if command not in COMMANDS:
        raise UserError(f"{command!r} cannot be submitted; choose one of {', '.join(COMMANDS)}")
    folder = folder.resolve()
    inside = (folder / config).resolve()
    if not inside.is_relative_to(folder):
        raise UserError(
            f"{config} is outside {folder}, which is what the job takes along; give --working-dir"
        )
    settings = load(inside, list(overrides))
    check_upload(folder)
    path = inside.relative_to(folder).as_posix()
    return {
        "entrypoint": shlex.join(["geoagent-rl", *command.split(), "--config", path, *overrides]),
        "runtime_env": {
            "working_dir": str(folder),
            "excludes": list(EXCLUDES),
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), **variables},
        },
        "metadata": {
            "geoagent": command,
            "config": path,
            "run_dir": settings.run.dir,
            "secrets": " ".join(secrets_needed(settings)),  # names: the cluster must have them
        },
    }


def secrets_needed(config: Config) -> list[str]:
    """Return names of the environment variables that hold what this configuration needs."""
    geocoder = config.reward.geocoder
    asked = [] if geocoder.without_key == "skip" else remote_names(geocoder)
    needed = [key for name in asked for key in key_names(geocoder, name)]
    return needed + ([REDIS_PASSWORD] if config.reward.cache.url.startswith("redis") else [])


def forwarded(asked: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return {name: value} of --env NAME (this environment's value) and --env NAME=VALUE. UserError
    for secrets."""
    found = {}
    for item in asked:
        name, equals, value = item.partition("=")
        if names_a_secret(name):
            raise UserError(
                f"--env {name}: a secret's value would be readable in the job's record; set {name} in the nodes' "
                f"environment, or forward --env {name}_FILE=PATH of a file that the nodes have"
            )
        if not equals and name not in environ:
            raise UserError(f"--env {name}: it is not set here; write --env {name}=VALUE")
        found[name] = value if equals else environ[name]
        if looks_secret(found[name]):
            raise UserError(
                f"--env {name}: its value looks like a key or holds a password, which would be readable in "
                f"the job's record; set {name} in the nodes' environment"
            )
    return found


def check_upload(folder: Path) -> None:
    """Measure what Ray would pack. Raises UserError that names the largest folders above the
    limit."""
    logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    sizes: Counter[str] = Counter()

    def weigh(path: Path) -> None:
        if path.is_file() and not path.is_symlink():
            parts = path.relative_to(folder).parts
            sizes["/".join(parts[:2]) if len(parts) > 1 else parts[0]] += path.stat().st_size

    _dir_travel(folder, [_get_excludes(folder, list(EXCLUDES))], weigh, include_gitignore=True)
    if (total := sizes.total()) > UPLOAD_LIMIT:
        largest = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in sizes.most_common(3))
        raise UserError(
            f"{folder} would upload {total / 2**20:.0f} MiB, the limit is {UPLOAD_LIMIT / 2**20:.0f}: the largest are "
            f"{largest}; move them away or list them in .gitignore or .rayignore"
        )


def client(address: str) -> Any:
    """Return a client of the cluster's job server. address: "" is RAY_API_SERVER_ADDRESS or
    RAY_ADDRESS."""
    address = (
        address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS", "")
    )
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"the job server's address is {address or 'not given'!r}; give --address http://HEAD:8265 or set "
            "RAY_API_SERVER_ADDRESS"
        )
    if not listening(address):  # Ray would try for ten seconds
        raise UserError(
            f"no job server at {address}: nothing listens there; start the cluster, or give the "
            "address of its dashboard, http://HEAD:8265"
        )
    use_cluster_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise UserError(
            f"{address} takes no job without the cluster's token: {TOKEN_HELP}"
        ) from None
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"no job server at {address}: {reason}; is the address right? If it is: {TOKEN_HELP}"
        ) from None


def listening(address: str) -> bool:
    """Say whether something takes connections at an http(s) address."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return takes_connections(parts.hostname or "", port, CONNECT_S)


def hand_in(jobs: Any, **job: Any) -> str:
    """Call submit_job, which a cluster that has just come up refuses for some seconds; return the
    job's id. Raises RuntimeError."""
    deadline = time.monotonic() + AGENT_WAIT_S
    while True:
        try:
            job_id: str = jobs.submit_job(**job)
            return job_id
        except RuntimeError as error:
            if TOO_EARLY not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(1.0)


async def follow(jobs: Any, job_id: str) -> str:
    """Print the job's output as it comes; return its final status."""
    async for text in jobs.tail_job_logs(job_id):
        print(text, end="", flush=True)
    return await ended(jobs, job_id, 30.0)


async def ended(jobs: Any, job_id: str, seconds: float) -> str:
    """Wait for the job's end; its status, or the one it has when the time is up."""
    deadline = time.monotonic() + seconds
    while not (status := await asyncio.to_thread(jobs.get_job_status, job_id)).is_terminal():
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    return str(status.value)


def table(jobs: Any) -> list[dict[str, Any]]:
    """Return one row per submitted job, newest first."""
    return [
        {
            "id": job.submission_id,
            "status": job.status.value,
            "started": job.start_time
            and time.strftime("%Y-%m-%d %H:%M", time.localtime(job.start_time / 1000)),
            "run_dir": (job.metadata or {}).get("run_dir", ""),
            "command": job.entrypoint,
        }
        for job in sorted(jobs.list_jobs(), key=lambda job: -(job.start_time or 0))
        if job.submission_id
    ]
