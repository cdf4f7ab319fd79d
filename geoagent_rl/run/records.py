"""Files of JSON lines that a run appends to: read them past damage, cut them back to a step.

A machine that loses its power leaves lines of NUL bytes, a kill leaves half a line. Readers skip
what is no record and say how many lines that were. Rows of one file have a `step` that never falls.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from geoagent_rl.files import parse_json

log = logging.getLogger(__name__)
Row = dict[str, Any]
BLOCK = 1 << 20  # bytes read at once on the way back from a file's end


def record(line: bytes) -> Row | None:
    """Return the JSON object on a line; None where there is none."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the JSON objects of a file's complete lines, none where it does not exist.

    A line that is no record is skipped; how many were is a warning in the log. A last line without
    its end is still being written, or a kill cut it off: it does not count."""
    if not path.is_file():
        return
    skipped = 0
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n") or not line.strip():
                continue
            row = record(line)
            if row is None:
                skipped += 1
            else:
                yield row
    if skipped:
        log.warning("%s: %d lines are no records (a power cut?); they are skipped", path, skipped)


def last_row(path: Path) -> Row:
    """Return a file's last record, {} where there is none. Reads no more than it needs."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        return next((row for _, line in _backwards(file) if (row := record(line))), {})


def end_of_step(path: Path, step: int) -> tuple[int, int]:
    """Return (offset, last): where the records up to `step` end, and the step of the last of them.

    (0, 0) where there are none. Reads only what lies behind that offset, and one record more."""
    if not path.is_file():
        return 0, 0
    with path.open("rb") as file:
        for end, line in _backwards(file):
            row = record(line) or {}
            found = row.get("step")
            if isinstance(found, int) and found <= step:
                return end, found
    return 0, 0


def cut_after(path: Path, step: int) -> None:
    """Cut off what was recorded after `step`, and damaged lines at the end."""
    if not path.is_file():
        return
    end, _ = end_of_step(path, step)
    if end < path.stat().st_size:
        os.truncate(path, end)


def _backwards(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (offset behind the line, line) of the complete lines, from the last to the first."""
    start = file.seek(0, os.SEEK_END)
    buffer, size = b"", BLOCK  # of the file from `start` to behind the last line not yet looked at
    while True:
        cut = len(buffer)
        while (before := buffer.rfind(b"\n", 0, cut - 1)) >= 0:
            if buffer[cut - 1 : cut] == b"\n":
                yield start + cut, buffer[before + 1 : cut]
            cut = before + 1
        if start == 0:
            if buffer[cut - 1 : cut] == b"\n":
                yield cut, buffer[:cut]
            return
        size = 2 * size if buffer and cut == len(buffer) else BLOCK  # a line may be longer
        step = min(size, start)
        start -= step
        file.seek(start)
        buffer = file.read(step) + buffer[:cut]
