"""Finds a run that is going on and joins its Ray, so that `scale` and `status` can look at it and
change it.

A run that started Ray itself (on one machine) leaves a note for its user: address and token,
readable by nobody else, gone when the run ends. On a cluster RAY_ADDRESS says where; a command
inside `ray job submit` is there already. Imports Ray only once that is settled: Ray reads its token
when it is imported."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from geoagent_rl.files import file_at_once
from geoagent_rl.geo.gazetteer_file import cache_root
from geoagent_rl.run.directory import run_id_of
from geoagent_rl.types import UserError

SCALABLE = ("geocoder", "judge")  # services of a run whose replicas can be changed
AUTH = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
CLOCK_S = 5.0  # by which a process' start may seem to move when the clock is set


def on_a_cluster() -> bool:
    """Say whether the environment says which cluster to join."""
    return bool(os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_ID"))


def wanted_replicas(words: list[str]) -> dict[str, int]:
    """Return {"geocoder": 8} from ["geocoder=8"]. Raises UserError for anything else."""
    wanted = {}
    for word in words:
        name, _, number = word.partition("=")
        if name not in SCALABLE or not number.isdecimal() or int(number) < 1:
            raise UserError(
                f"cannot scale {word!r}; write one or more of {'=N, '.join(SCALABLE)}=N with N at least 1"
            )
        wanted[name] = int(number)
    if not wanted:
        raise UserError(f"nothing to scale; write one or more of {'=N, '.join(SCALABLE)}=N")
    return wanted


@contextlib.contextmanager
def noted(run_id: str, run_dir: Path, address: str) -> Iterator[None]:
    """Keep the note of a local run while the block runs."""
    note = {"run_id": run_id, "run_dir": str(run_dir), "address": address, **_this_process()}
    note["auth"] = {name: os.environ[name] for name in AUTH if name in os.environ}
    path = cache_root() / "sessions" / f"{run_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        file_at_once(path) as part,
        open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file,  # noqa: PTH123
    ):
        json.dump(note, file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _this_process() -> dict[str, Any]:
    """Name it among all of all machines: a pid alone may be another's by now, or elsewhere."""
    own = psutil.Process()
    return {"host": platform.node(), "pid": own.pid, "started": own.create_time()}


def _goes_on(note: dict[str, Any]) -> bool:
    try:
        started: float = psutil.Process(note["pid"]).create_time()
    except psutil.NoSuchProcess:
        return False
    return bool(abs(started - note.get("started", started)) < CLOCK_S)


def notes() -> list[dict[str, Any]]:
    """Return the notes of this machine's runs that are going on; remove what killed ones left.

    Notes of other machines, with which this one may share the home directory, stay."""
    found = []
    for path in sorted((cache_root() / "sessions").glob("*.json")):
        try:
            note = json.loads(path.read_text())
            if note.get("host", platform.node()) != platform.node():
                continue
            if _goes_on(note):
                found.append(note)
            else:
                path.unlink(missing_ok=True)
        except (OSError, ValueError):  # just gone, or damaged
            continue
    return found


@dataclass
class Live:
    """A run that is going on, seen from another process."""

    run_id: str
    run_dir: Path | None  # None: on another machine


@contextlib.contextmanager
def joined(run: str) -> Iterator[Live]:
    """Connect to the Ray of the run (its directory or id; "": the only one there is).

    Raises UserError when there is no such run, or several and none is named.
    """
    note = None
    if not on_a_cluster():
        local = {note["run_id"]: note for note in notes()}
        note = local[the_one({i: n["run_dir"] for i, n in local.items()}, run, "on this machine")]
        os.environ.pop(AUTH[1], None)
        os.environ.update(note["auth"])
    import ray
    from ray import serve

    ray.init(
        address=note["address"] if note else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
        namespace="geoagent-rl-live",
        configure_logging=False,
    )
    try:
        names = {
            name.removesuffix("-judge")
            for name in serve.status().applications
            if name.endswith("-judge")
        }
        run_id = the_one(
            dict.fromkeys(names, ""), note["run_id"] if note else run, "on this cluster"
        )
        folder = Path(note["run_dir"] if note else run)
        yield Live(run_id, folder if folder.is_dir() else None)
    finally:
        ray.shutdown()


def the_one(runs: dict[str, str], run: str, where: str) -> str:
    """Return the id among {id: directory} that `run` names by id or directory; the only one when
    `run` is empty.
    """
    wanted = [i for i in runs if not run or run == i or run_id_of(Path(run).resolve()) == i]
    if len(wanted) == 1:
        return wanted[0]
    listed = ", ".join(directory or i for i, directory in runs.items()) or "none"
    if not wanted:
        raise UserError(
            f"no such run is going on {where}; going on: {listed} (a cluster: set RAY_ADDRESS)"
        )
    raise UserError(f"several runs are going on {where}; name one with --run: {listed}")
