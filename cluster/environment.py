"""What of the environment would break a start, said at once in one line that names the variable.

Otherwise it shows after minutes, as a trace of Ray's, or never. Imports nothing heavy."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from geoagent_rl.config import Config
from geoagent_rl.network import LOOPBACK, takes_connections
from geoagent_rl.types import UserError

# The longest that Ray puts below its temporary directory, and what a socket's path may be long.
SOCKET = "/ray/session_2026-11-26_20-16-52_824119_2194688/sockets/dash_MetricsHead"
SOCKET_PATH = 107  # bytes, on Linux
ADDRESS_S = 5.0
HIDDEN = ("", "-1", "none", "NoDevFiles")  # what hides every GPU
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "VLLM_CPU_KVCACHE_SPACE")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def check_environment(config: Config | None = None) -> None:
    """Raise UserError for a variable with which no run can start; take loopback off the proxies.

    config: of the run, None for one that asks for no GPU."""
    _check_temporary_folders()
    _check_cluster()
    for name in THREADS:
        if (value := os.environ.get(name)) and not (value.isdecimal() and int(value)):
            raise UserError(f"{name}={value} is no number above 0; unset it")
    _check_gpus(config)
    _keep_loopback_off_proxies()


def _check_temporary_folders() -> None:
    """Ray's, which holds its sockets, and everybody else's."""
    for name in ("TMPDIR", "RAY_TMPDIR"):
        folder = os.environ.get(name)
        if folder is None:
            continue
        if not Path(folder).is_dir() or not os.access(folder, os.W_OK):
            raise UserError(
                f"{name}={folder} is no directory that can be written; make or unset it"
            )
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(name, tempfile.gettempdir())
    room = SOCKET_PATH - len(SOCKET)
    if len(os.fsencode(folder)) > room:
        raise UserError(
            f"{name}={folder} is too long: the paths of Ray's sockets in it would have more than "
            f"{SOCKET_PATH} bytes; give a directory of at most {room}, as RAY_TMPDIR=/tmp"
        )


def _check_cluster() -> None:
    """Ray itself waits for minutes for a cluster that is not there."""
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    if os.environ.get("RAY_JOB_ID"):
        return
    if not address and os.environ.get("RAY_AUTH_MODE") == "disabled":
        raise UserError(
            "RAY_AUTH_MODE=disabled: the Ray of a run listens on every address of this machine and "
            "does whatever it is asked; unset it, and the run makes a token of its own"
        )
    if not address or address in ("auto", "local"):
        return
    if "://" in address or not host or not port.isdecimal():
        raise UserError(
            f"RAY_ADDRESS={address} is not HOST:PORT of a cluster's head; mend it, or unset it to "
            "start Ray on this machine (a job is handed in with `geoagent-rl submit --address`)"
        )
    if not takes_connections(host.strip("[]"), int(port), ADDRESS_S):
        raise UserError(
            f"RAY_ADDRESS={address}: nothing listens there; start the cluster, or unset it to start "
            "Ray on this machine"
        )


def _check_gpus(config: Config | None) -> None:
    """Of a run that starts Ray here; a cluster's nodes have environments of their own."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or config is None or os.environ.get("RAY_ADDRESS"):
        return
    named = [] if visible.strip() in HIDDEN else [part.strip() for part in visible.split(",")]
    asked = config.rollout.gpus_per_engine or config.learner.gpus_per_rank
    if asked and not named:
        raise UserError(
            f"CUDA_VISIBLE_DEVICES={visible} hides every GPU from a run that asks for some; unset it"
        )
    if len(set(named)) < len(named) or "" in named:
        raise UserError(
            f"CUDA_VISIBLE_DEVICES={visible} names a GPU twice, or none; give each once, as in 0,1"
        )


def _keep_loopback_off_proxies() -> None:
    """No proxy reaches this machine's own services; whatever asks them obeys no_proxy."""
    if not any(os.environ.get(n) or os.environ.get(n.upper()) for n in PROXIES):
        return
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name for name in given.split(",") if name]
    names += [name for name in LOOPBACK if name not in names and "[" not in name]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
