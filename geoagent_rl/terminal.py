"""What long commands say while they run, on standard error; imports nothing heavy."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from geoagent_rl.types import InfraError, UserError

SILENT_S = 2.0  # a log never says nothing for longer while something starts
LOOK_S = 0.25  # how often that is looked at
APART_S = 1.0  # tenths that pass more quickly than this are not said
START_S = 120.0  # from then on it is no start any more, and a line is due less often
SILENT_LATER_S = 30.0
STUCK = "waits for what may never answer: "  # begins the names of threads that no exit waits for
# What is printed on standard output meanwhile stays there: it may be a result in a pipe.
ON_STDERR: dict[str, Any] = {"console": Console(stderr=True), "redirect_stdout": False}
_said_at = [0.0]  # time.monotonic() of the last line
_going: list[Going] = []  # what goes on, the innermost last
_keepers: list[Callable[[str], None]] = []
_unkept: deque[str] = deque(maxlen=1000)  # what was said while nobody kept it


def say(text: str) -> None:
    """Print a line on standard error. A closed terminal or one that lacks letters stops nothing."""
    _said_at[0] = time.monotonic()
    for line in text.splitlines():
        for keep in _keepers or (_unkept.append,):
            keep(stamped(line))
    with contextlib.suppress(OSError, ValueError):
        letters = getattr(sys.stderr, "encoding", None) or "utf-8"
        print(text.encode(letters, "backslashreplace").decode(letters), file=sys.stderr, flush=True)


def stamped(line: str) -> str:
    """Return a line with the local time before it."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}"


@contextlib.contextmanager
def kept(keep: Callable[[str], None]) -> Iterator[None]:
    """Hand every line that is said to `keep` too, stamped, from any thread; first those of before
    that nobody has kept."""
    while _unkept:
        keep(_unkept.popleft())
    _keepers.append(keep)
    try:
        yield
    finally:
        _keepers.remove(keep)


def every_letter_passes() -> None:
    """Make standard output write what its encoding lacks as an escape, as standard error does:
    letters that a terminal has not, and names of files that are no UTF-8, stop nothing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def errors_in_one_line(debug: bool = False) -> Iterator[None]:
    """Exit with code 1 and one line for what a user can mend (also a file or folder that the system
    refuses), with 130 after Ctrl-C, SIGTERM or SIGHUP. debug: raise the error instead, for its
    trace. A thread that ends by an error (TensorBoard's, of a full disk) is one line too.
    """
    hook = threading.excepthook
    threading.excepthook = hook if debug else thread_ended
    try:
        with stopped_tidily():
            yield
    except (UserError, InfraError, OSError) as error:
        if debug:
            raise
        leave_with(f"error: {refused(error) if isinstance(error, OSError) else error}")
    except KeyboardInterrupt:
        leave_with(130)
    except SystemExit as end:
        leave_with(end.code)
    finally:
        threading.excepthook = hook


@contextlib.contextmanager
def stopped_tidily() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does: at once, as the system would, it
    leaves half files and locks. What is ignored (SIGHUP by nohup) stays so."""
    ours = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def has_stuck_threads() -> bool:
    """Return whether a thread is STUCK in a library. To end that library, or the interpreter, under
    it can crash the process."""
    return any(thread.name.startswith(STUCK) for thread in threading.enumerate())


def leave_with(code: str | int | None) -> NoReturn:
    """Exit as sys.exit does; where threads are stuck, without the interpreter's own end."""
    if not has_stuck_threads():
        sys.exit(code)
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def thread_ended(ended: threading.ExceptHookArgs) -> None:
    """Say by which error a thread ended."""
    name = ended.thread.name if ended.thread else "a thread"
    why = " ".join(str(ended.exc_value).split())
    say(f"WARNING: {name} ended by {ended.exc_type.__name__}: {why}".rstrip(": "))


def stop_with_130() -> None:
    """Make SIGINT, SIGTERM and SIGHUP end this process, which is to serve, as Ctrl-C does.

    uvicorn stops serving at the first two, then raises them again for the handler of before. SIGINT
    would be lost where the shell that started it ignores it (nohup, a job in the background)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def refused(error: OSError) -> str:
    """Return one line on what the system would not do."""
    about = f"{error.filename}: " if error.filename else ""
    reason = " ".join((error.strerror or str(error) or type(error).__name__).split())
    return f"{about}{reason}; give another path or make this one usable (--debug shows where it happened)"


@dataclass
class Going:
    """What goes on, and since when by time.monotonic()."""

    state: Callable[[], str]
    since: float
    silent_times: int


@contextlib.contextmanager
def moving(state: Callable[[], str], silent_times: int = 1) -> Iterator[None]:
    """Say `state()` and its seconds whenever nothing was said for so many times SILENT_S, so that
    a log shows that something goes on; after START_S for SILENT_LATER_S.

    Inside another one the inner speaks, and the outer counts anew from its end. "" is not said:
    something else moves."""
    with contextlib.ExitStack() as watching:
        mine = Going(state, time.monotonic(), silent_times)
        if not _going:
            _said_at[0] = mine.since
            watching.enter_context(_watched())
        _going.append(mine)
        try:
            yield
        finally:
            _going.remove(mine)
            for outer in _going[-1:]:
                outer.since = time.monotonic()


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            for going in _going[-1:]:  # none: it has just ended
                now = time.monotonic()
                first = SILENT_S * going.silent_times
                limit = first if now - going.since < START_S else SILENT_LATER_S
                if now - _said_at[0] >= limit and (text := going.state()):
                    say(f"{text}: {now - going.since:.0f} s so far")

    thread = threading.Thread(target=watch, name="moving line", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def phase(what: str) -> Iterator[None]:
    """Say what begins and, at its end, how long it took; meanwhile a clock runs in a terminal, and
    lines come in a log.

    Phases follow each other: none is opened inside another, nor a `progress`.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as shown:
        if sys.stderr.isatty():
            columns = SpinnerColumn(), TextColumn(what), TimeElapsedColumn()
            clock = Progress(*columns, transient=True, **ON_STDERR)
            clock.add_task(what)
            shown.enter_context(clock)
            shown.enter_context(moving(lambda: ""))
        else:
            say(f"{what} ...")
            shown.enter_context(moving(lambda: what))
        yield
    say(f"{what}: {time.monotonic() - start:.1f} s")


class progress:
    """A progress bar; where standard error is no terminal plain lines, every tenth and whenever
    nothing else was said for long.

    tenths: False where every unit has a line of its own already."""

    def __init__(self, what: str, tenths: bool = True) -> None:
        self.what, self.tenths, self.shown = what, tenths, -1
        self.state = what
        times = TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn()
        columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), *times
        self.bar = Progress(*columns, **ON_STDERR)
        self.task = self.bar.add_task(what, total=None)
        self.lines = contextlib.ExitStack()

    def __enter__(self) -> Callable[[int, int], None]:
        clock = sys.stderr.isatty()
        if clock:
            self.bar.start()
        # twice as long: steps of some seconds have lines of their own
        self.lines.enter_context(moving(lambda: "" if clock else self.state, silent_times=2))
        return self.advance

    def advance(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        self.state = f"{self.what}: {done}/{total}"
        if sys.stderr.isatty():
            self.bar.update(self.task, completed=done, total=total)
        elif self.tenths and (tenth := 10 * done // total) != self.shown:
            if done == total or time.monotonic() - _said_at[0] >= APART_S:
                self.shown = tenth
                say(self.state)

    def __exit__(self, *_: Any) -> None:
        self.lines.close()
        if self.bar.live.is_started:  # else it prints an empty line
            self.bar.stop()
