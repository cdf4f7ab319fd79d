"""What long commands say while they run, on standard error; imports nothing heavy."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from geoagent_rl.types import InfraError, UserError


def say(text: str) -> None:
    """Print a line on standard error. A closed terminal or one that lacks letters stops nothing."""
    with contextlib.suppress(OSError, ValueError):
        letters = getattr(sys.stderr, "encoding", None) or "utf-8"
        print(text.encode(letters, "backslashreplace").decode(letters), file=sys.stderr, flush=True)


@contextlib.contextmanager
def errors_in_one_line(debug: bool = False) -> Iterator[None]:
    """Exit with code 1 and one line for what a user can mend (also a file or folder that the system
    refuses), with 130 after Ctrl-C. debug: raise the error instead, for its trace.
    """
    try:
        yield
    except (UserError, InfraError, OSError) as error:
        if debug:
            raise
        sys.exit(f"error: {refused(error) if isinstance(error, OSError) else error}")
    except KeyboardInterrupt:
        sys.exit(130)


def stop_with_130() -> None:
    """Make SIGINT and SIGTERM end this process as Ctrl-C does.

    uvicorn stops serving at either, then raises it again for the handler of before. Without one,
    SIGTERM would end the process before it has cleaned up, and SIGINT would be lost where the shell
    that started it ignores it (nohup, a job in the background)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def refused(error: OSError) -> str:
    """One line on what the system would not do."""
    about = f"{error.filename}: " if error.filename else ""
    reason = " ".join((error.strerror or str(error) or type(error).__name__).split())
    return f"{about}{reason}; give another path or make this one usable (--debug shows where it happened)"


@contextlib.contextmanager
def phase(what: str) -> Iterator[None]:
    """Say what begins and, at its end, how long it took; in a terminal a clock runs meanwhile.

    Phases follow each other: none is opened inside another, nor a `progress`.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as shown:
        if sys.stderr.isatty():
            columns = SpinnerColumn(), TextColumn(what), TimeElapsedColumn()
            clock = Progress(*columns, console=Console(stderr=True), transient=True)
            clock.add_task(what)
            shown.enter_context(clock)
        else:
            say(f"{what} ...")
        yield
    say(f"{what}: {time.monotonic() - start:.1f} s")


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
        """Show that `done` of `total` are done."""
        if sys.stderr.isatty():
            self.bar.update(self.task, completed=done, total=total)
        elif (tenth := 10 * done // total) != self.shown:
            self.shown = tenth
            say(f"{self.what}: {done}/{total}")

    def __exit__(self, *_: Any) -> None:
        if self.bar.live.is_started:  # else it prints an empty line
            self.bar.stop()
