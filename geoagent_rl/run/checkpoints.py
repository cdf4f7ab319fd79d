"""A run's checkpoints as directories: each is whole or absent, some are kept, the newest whole one
is continued from.

    checkpoints/step-000040/   whole: it got its name when everything in it was on disk;
                               state.json lists its files
    checkpoints/best           a link to the one with the highest validation reward so far
    checkpoints/*.part         under way, or torn: whoever wrote it was killed

May know nothing of what is in a checkpoint apart from state.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from geoagent_rl.files import (
    UNFINISHED,
    directory_at_once,
    file_at_once,
    remove_at_once,
    sweep,
)

Say = Callable[[str], None]
STATE, BEST = "state.json", "best"
NAME = "step-{:06d}"


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint directory."""
    return int(checkpoint.name.removeprefix("step-"))


def complete(folder: Path) -> list[Path]:
    """Return those that have got their names, oldest first."""
    return sorted(p for p in folder.glob("step-*") if p.suffix != UNFINISHED and p.is_dir())


def write_whole(directory: Path, write: Callable[[Path], None], state: Mapping[str, Any]) -> None:
    """Fill a new directory with `write` and state.json; it gets its name when all is on disk.

    state.json also lists every file with its size and SHA-256, and has a sum of its own. A failure
    leaves nothing behind and is raised as it is (OSError on a full disk, or what the library that
    writes makes of it)."""
    sweep(directory)
    with directory_at_once(directory, durable=True) as part:
        write(part)
        files = {
            str(p.relative_to(part)): [p.stat().st_size, _sum_of(p)]
            for p in sorted(part.rglob("*"))
            if p.is_file()
        }
        state = {**state, "files": files}
        (part / STATE).write_text(json.dumps({**state, "sum": _sum_of_state(state)}))


def state_of(checkpoint: Path) -> dict[str, Any]:
    """Return what `write_whole` was given as state, with the list of files. OSError, ValueError."""
    found: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
    return found


def newest_state(folder: Path) -> dict[str, Any]:
    """Return the state of the newest readable checkpoint; empty where there is none."""
    for checkpoint in reversed(complete(folder)):
        with contextlib.suppress(OSError, ValueError):
            return state_of(checkpoint)
    return {}


def damage(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint, in a few words; empty: every byte is as written."""
    try:
        state = state_of(checkpoint)
        files = state.get("files", {})  # absent in checkpoints of older versions
        broken = "sum" in state and state.pop("sum") != _sum_of_state(state)
    except (OSError, ValueError, AttributeError):
        broken, files = True, {}
    if broken:
        return f"{STATE} is missing or broken"
    for name, written in files.items():
        size, known = written if isinstance(written, list) else (written, None)
        path = checkpoint / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{name} is not of its {size} bytes"
        if known is not None and _sum_of(path) != known:
            return f"{name} has other bytes than were written"
    return ""


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_of_state(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def newest_whole(folder: Path, say: Say, recorded: int) -> Path | None:
    """Return the checkpoint to continue from; None: there is none.

    recorded: the last step that the run has records of; one beyond it would leave a gap. Says which
    checkpoints it passes over."""
    for torn in sorted(folder.glob("step-*" + UNFINISHED)):
        say(f"passing over {torn}: it was being written when the run was killed")
    for checkpoint in reversed(complete(folder)):
        problem = damage(checkpoint)
        if not problem and step_of(checkpoint) > recorded:
            problem = f"the records end at step {recorded} (a power cut?)"
        if not problem:
            return checkpoint
        say(f"passing over {checkpoint}: {problem}")
    return None


def tidy(folder: Path, keep: int, best: int | None) -> None:
    """Keep the newest `keep` checkpoints and that of step `best`, which the link "best" names once
    it is there.
    """
    there = {step_of(p): p for p in complete(folder)}
    for step, path in list(there.items())[:-keep]:
        if step != best:
            remove_at_once(path)
    link = folder / BEST
    if best not in there:
        return
    if not link.is_symlink() or str(link.readlink()) != there[best].name:
        with file_at_once(link) as aside:
            aside.symlink_to(there[best].name)


class BackgroundWriter:
    """Writes one checkpoint at a time in a thread, beside the run's own work."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.problems: list[str] = []

    def begin(
        self, directory: Path, write: Callable[[Path], None], state: Mapping[str, Any]
    ) -> None:
        """Start `write_whole`, after the one before it has ended. What it is given must not change
        any more.
        """
        self.wait()

        def work() -> None:
            try:
                write_whole(directory, write, state)
            except Exception as error:  # noqa: BLE001 (no checkpoint is no reason to lose the run)
                self.problems.append(
                    f"{directory}: {' '.join(f'{type(error).__name__}: {error}'.split())}"
                )

        self.thread = threading.Thread(target=work, name="checkpoint-writer")
        self.thread.start()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def take_problems(self) -> list[str]:
        """Return what has gone wrong since the last call, one line each."""
        problems, self.problems = self.problems, []
        return problems
