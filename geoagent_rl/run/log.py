"""log.txt of a run: the lines that it printed, with their times, and what ended it.

Whole lines only. A resumed run goes on in the same file; when that is full, its older half goes. A
disk without room costs lines and stops nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from geoagent_rl.files import keep_lines, write_bytes
from geoagent_rl.terminal import kept, stamped

LOG = "log.txt"
MOST_BYTES = 2**20


@contextlib.contextmanager
def logged(run: Path) -> Iterator[None]:
    """Keep what is said in the log of a run that has begun, also why it ended before its time."""
    file, turn = run / LOG, threading.Lock()

    def keep(line: str) -> None:
        with turn, contextlib.suppress(OSError):
            if file.exists() and file.stat().st_size > MOST_BYTES:
                younger = file.read_bytes()[-MOST_BYTES // 2 :]
                write_bytes(file, younger.partition(b"\n")[2])
            with file.open("a", encoding="utf-8", errors="replace") as lines:
                lines.write(line + "\n")

    with contextlib.suppress(OSError):  # without the half line of a run that was killed
        keep_lines(file, lambda line: line.endswith(b"\n"))
    with kept(keep):
        try:
            yield
        except BaseException as error:
            keep(stamped(f"ended by {type(error).__name__}: {error}".rstrip(": ")))
            raise


def last_lines(run: Path, count: int) -> list[str]:
    """Return the last lines of a run's log, none where it has none."""
    try:
        with (run / LOG).open(encoding="utf-8", errors="replace") as lines:
            return [line.rstrip("\n") for line in deque(lines, count)]
    except OSError:
        return []
