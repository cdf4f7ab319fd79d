"""What a process says on standard error, and when: a start must never look as if it hung."""

from __future__ import annotations

import subprocess
import threading
import time

Lines = list[tuple[float, str]]  # seconds since the start, line


def transcript(process: subprocess.Popen[str], limit_s: float) -> tuple[str, Lines]:
    """Return (standard output, the lines of standard error) of a process, read to its end."""
    begin, lines = time.monotonic(), []

    def listen() -> None:
        lines.extend((time.monotonic() - begin, line.rstrip("\n")) for line in process.stderr)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    printed = process.stdout.read()
    process.wait(limit_s)
    listener.join(limit_s)
    return printed, lines


def longest_silence(lines: Lines) -> tuple[float, str]:
    """Return (seconds, the line before it) of the longest gap, the wait for the first included."""
    silences = [(lines[0][0], "the start")]
    silences += [
        (later - at, line) for (at, line), (later, _) in zip(lines, lines[1:], strict=False)
    ]
    return max(silences)
