"""Reads files of JSON lines that are still being written: columns of metrics.jsonl, and an index of rollouts.jsonl.

Only what was added since the last look is read. A file that was replaced or cut (a resumed run does that) is read anew
under another `generation`. A last line without its end is left until it is complete.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 1 << 24  # bytes
# The ends of a row as RunDir writes it. A completion cannot forge them: inside a JSON string every quote is escaped.
_HEAD = re.compile(rb'\{"step": (\d+), "uid": ("(?:[^"\\]|\\.)*")')
_TAIL = re.compile(rb'"total": (null|NaN|[-+.\deE]+), "advantage": (?:null|NaN|[-+.\deE]+)\}$')
_TAIL_BYTES = 120


class LineFile:
    """The complete lines of a growing file."""

    def __init__(self, path: Path) -> None:
        self.path, self.generation = path, 0
        self.offset, self._inode = 0, -1
        self._lock = threading.Lock()

    def new_lines(self) -> Iterator[tuple[int, bytes]]:
        """(offset, line without its end) of what was added. Calls forget() first when the file is another one now."""
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            return
        with file:
            state = os.fstat(file.fileno())
            if self._inode not in (-1, state.st_ino) or state.st_size < self.offset:
                self.offset, self.generation = 0, self.generation + 1
                self.forget()
            self._inode = state.st_ino
            file.seek(self.offset)
            while lines := file.readlines(CHUNK):
                for line in lines:
                    if not line.endswith(b"\n"):
                        return
                    start, self.offset = self.offset, self.offset + len(line)
                    yield start, line[:-1]

    def forget(self) -> None:
        raise NotImplementedError


class Steps(LineFile):
    """metrics.jsonl as columns: {name: [what each row has, None where it has nothing]}."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.columns: dict[str, list[Any]] = {}
        self.rows = 0

    def forget(self) -> None:
        self.columns, self.rows = {}, 0

    def refresh(self) -> None:
        with self._lock:
            for _, line in self.new_lines():
                row = json.loads(line)
                for name in row.keys() - self.columns.keys():
                    self.columns[name] = [None] * self.rows
                for name, column in self.columns.items():
                    column.append(row.get(name))
                self.rows += 1

    def numbers(self, name: str, first: int = 0) -> list[float | None]:
        """A column from row `first` on, with six digits, plenty for a curve; None for what JSON has no number for."""
        return [_short(value) for value in self.columns[name][first:]]


class Rollouts(LineFile):
    """Where each row of rollouts.jsonl lies, and what rows are sorted and searched by."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.forget()

    def forget(self) -> None:
        self.offsets, self.steps, self.totals = array("q"), array("l"), array("d")
        self.failed = bytearray()  # 1: some part was not judged on its merits
        self.uids: list[str] = []

    def refresh(self, budget_s: float = 1.0) -> float:
        """Indexes for at most about `budget_s` seconds; returns which share of the file is indexed."""
        stop = time.monotonic() + budget_s
        with self._lock:
            for offset, line in self.new_lines():
                step, uid, total = _ends(line)
                self.offsets.append(offset)
                self.steps.append(step)
                self.totals.append(total)
                self.failed.append(b'"kind": "infra"' in line or b'"kind": "data"' in line)
                self.uids.append(uid)
                if not len(self.uids) % 1000 and time.monotonic() > stop:
                    break
            size = self.path.stat().st_size if self.path.exists() else 0
            return self.offset / size if size else 1.0

    def row(self, number: int) -> dict[str, Any]:
        """Raises IndexError for a row that is not there."""
        if number < 0:
            raise IndexError(number)
        with open(self.path, "rb") as file:
            file.seek(self.offsets[number])
            return json.loads(file.readline())


def _ends(line: bytes) -> tuple[int, str, float]:
    """(step, uid, total, NaN where there is none) of a row of rollouts.jsonl."""
    head, tail = _HEAD.match(line), _TAIL.search(line, max(0, len(line) - _TAIL_BYTES))
    if head is None or tail is None:
        row = json.loads(line)
        total = row.get("total")
        return int(row["step"]), str(row["uid"]), math.nan if total is None else float(total)
    total = tail[1]
    return int(head[1]), json.loads(head[2]), math.nan if total == b"null" else float(total)


def _short(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")
