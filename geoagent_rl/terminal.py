"""What long commands say while they run, on standard error; imports nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class progress:
    """A progress bar; plain lines every tenth where standard error is no terminal."""

    def __init__(self, what: str) -> None:
        self.what, self.shown = what, -1
        columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self.bar = Progress(*columns, console=Console(stderr=True))
        self.task = self.bar.add_task(what)

    def __enter__(self) -> Callable[[int, int], None]:
        if sys.stderr.isatty():
            self.bar.start()
        return self.advance

    def advance(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            self.bar.update(self.task, completed=done, total=total)
        elif (tenth := 10 * done // total) != self.shown:
            self.shown = tenth
            say(f"{self.what}: {done}/{total}")

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()
