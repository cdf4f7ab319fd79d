"""Reads files of JSON lines that are still being written: columns of metrics.jsonl, and an index of
rollouts.jsonl.

Only what was added since the last look is read. A file that was replaced or cut (a resumed run does
that) is read anew under another `generation`. A last line without its end is left until it is
complete."""

from __future__ import annotations

import bisect
import itertools
import json
import math
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # noqa: F401 - to_numpy() of pyarrow loads it: better at the start than while a page waits
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray

from geoagent_rl.metrics.table import TABLE, is_metric
from geoagent_rl.run.records import record

CHUNK = 1 << 22  # bytes
ROWS = 10_000  # of metrics.jsonl that are in memory as text
POINTS = 400  # that a curve is drawn with; a longer one is thinned to so many means
# The ends of a row as RunDir writes it. A completion cannot forge them: inside a JSON string every
# quote is escaped.
_HEAD = re.compile(rb'\{"step": (\d+), "uid": ("(?:[^"\\]|\\.)*")')
_TAIL = re.compile(rb'"total": (null|NaN|[-+.\deE]+), "advantage": (?:null|NaN|[-+.\deE]+)\}$')
_TAIL_BYTES = 120
# Arrow reads JSON three times as fast as Python: most of the time in which the page opens on a long
# run.
SCHEMA = pa.schema([(name, pa.float64()) for name in TABLE if is_metric(name)])
# Metrics of the parts of the reward are found in the rows: anybody may add a part.
PARSE = pyarrow.json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="infer")
READ = pyarrow.json.ReadOptions(use_threads=False)
LONG_ROW = (
    1 << 14
)  # bytes that one row is thought to have at the most where the last rows are looked for


class LineFile(ABC):
    """The complete lines of a growing file."""

    def __init__(self, path: Path) -> None:
        self.path, self.generation = path, 0
        self.offset, self._inode = 0, -1
        self._lock = threading.Lock()

    def new_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, line without its end) of what was added. Calls forget() first when the
        file is another one now."""
        try:
            file = self.path.open("rb")
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

    @abstractmethod
    def forget(self) -> None:
        """Drop what was read: the file has begun anew."""


class Steps(LineFile):
    """metrics.jsonl as columns: {metric: what each row has, NaN where it has no number}."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.forget()

    def forget(self) -> None:
        """Drop what was read: the file has begun anew."""
        self.columns: dict[str, array[float]] = {}
        self.rows = 0

    def refresh(self) -> None:
        """Read the rows that were added."""
        with self._lock:
            lines = self.new_lines()
            while some := [line for _, line in itertools.islice(lines, ROWS)]:
                found, none = _columns(some), np.full(len(some), math.nan)
                for name in found.keys() - self.columns.keys():
                    self.columns[name] = array("d", [math.nan]) * self.rows
                for name, column in self.columns.items():
                    column.frombytes(found.get(name, none).tobytes())
                self.rows += len(some)

    def curve(self, name: str, smooth: int = 1) -> list[list[float]]:
        """Return [steps, averages, values] as drawn: numbers only, averages over `smooth` steps, at
        most POINTS points, six digits; no values where nothing is averaged."""
        x, y = (np.array(self.columns.get(key, ())) for key in ("step", name))
        if not len(y):
            return [[], [], []]
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        drawn = [thinned(smoothed(y, smooth)), thinned(y)] if smooth > 1 else [thinned(y), y[:0]]
        return [np.round(thinned(x), 1).tolist(), *(list(map(_six_digits, v)) for v in drawn)]

    def elapsed(self) -> list[list[float]]:
        """Return [steps, seconds that the run had taken by then], thinned as curves are."""
        x = np.array(self.columns.get("step", ()))
        spent = np.zeros(len(x))
        for name in ("step_seconds", "save_seconds", "validation_seconds"):
            if name in self.columns:
                spent += np.nan_to_num(np.array(self.columns[name]))
        known = np.isfinite(x)
        x, spent = thinned(x[known]), thinned(np.cumsum(spent)[known])
        return [np.round(x, 1).tolist(), np.round(spent, 1).tolist()]


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")


def smoothed(y: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the centred mean of `window` values; at the ends of as many as there are on both
    sides.
    """
    i = np.arange(len(y))
    reach = np.minimum(window // 2, np.minimum(i, len(y) - 1 - i))
    sums = np.concatenate([[0.0], np.cumsum(y)])
    return (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1) if window > 1 else y


def thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of POINTS parts that are alike in length, or the values where there are no
    more than that.
    """
    if len(values) <= POINTS:
        return values
    cuts = np.arange(POINTS + 1) * len(values) // POINTS
    return np.add.reduceat(values, cuts[:-1]) / np.diff(cuts)


class Rollouts(LineFile):
    """Where each row of rollouts.jsonl lies, and what rows are sorted and searched by.

    A row goes by its place, the offset of its first byte: it is known, and the row can be read,
    before the rows that stand before it are indexed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.forget()

    def forget(self) -> None:
        """Drop what was read: the file has begun anew."""
        self.offsets, self.steps, self.totals = array("q"), array("l"), array("d")
        self.failed = bytearray()  # 1: some part was not judged on its merits
        self.uids: list[str] = []
        self.damaged = 0  # lines that are no rollouts: a machine that lost its power leaves such

    def refresh(self, budget_s: float = 0.2) -> float:
        """Index for at most about `budget_s` seconds; return which share of the file is indexed."""
        stop = time.monotonic() + budget_s
        with self._lock:
            for offset, line in self.new_lines():
                ends = _ends(line)
                if ends is None:
                    self.damaged += 1
                    continue
                step, uid, total = ends
                self.offsets.append(offset)
                self.steps.append(step)
                self.totals.append(total)
                self.failed.append(b'"kind": "infra"' in line or b'"kind": "data"' in line)
                self.uids.append(uid)
                if not len(self.uids) % 1000 and time.monotonic() > stop:
                    break
            size = self.path.stat().st_size if self.path.exists() else 0
            return self.offset / size if size else 1.0

    def row(self, at: int) -> dict[str, Any]:
        """Return the row whose first byte is byte `at` of the file. Raises IndexError where no row
        begins.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(max(at - 1, 0))
                begins = at == 0 or (at > 0 and file.read(1) == b"\n")
                line = file.readline() if begins else b""
        except FileNotFoundError:
            line = b""
        if not line.endswith(b"\n"):
            raise IndexError(at)
        row = record(line)
        if row is None:
            raise IndexError(at)
        return row

    def group(self, at: int) -> list[int]:
        """Return where the rows of one group begin; a file holds them one after another, and their
        `index` rises. [] where the row at `at` is not indexed yet."""
        i = bisect.bisect_left(self.offsets, at)
        if i == len(self.offsets) or self.offsets[i] != at:
            return []
        first = last = i
        while first > 0 and self._neighbours(first - 1, first):
            first -= 1
        while last + 1 < len(self.offsets) and self._neighbours(last, last + 1):
            last += 1
        return list(self.offsets[first : last + 1])

    def _neighbours(self, a: int, b: int) -> bool:
        same = self.steps[a] == self.steps[b] and self.uids[a] == self.uids[b]
        return same and self.row(self.offsets[a])["index"] < self.row(self.offsets[b])["index"]

    def last(self, count: int) -> list[int]:
        """Return where the last `count` rows begin, the newest first; fewer where they are long.
        Needs no index."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - count * LONG_ROW)
            file.seek(start)
            tail = file.read()
        ends = [start + match.end() for match in re.finditer(rb"\n", tail)]
        return ([0] * (start == 0) + ends)[:-1][: -count - 1 : -1]


def _ends(line: bytes) -> tuple[int, str, float] | None:
    """(step, uid, total, NaN where there is none) of a row of rollouts.jsonl; None: no row."""
    head, tail = _HEAD.match(line), _TAIL.search(line, max(0, len(line) - _TAIL_BYTES))
    if head is None or tail is None:
        row = record(line) or {}
        total = row.get("total")
        try:
            return int(row["step"]), str(row["uid"]), math.nan if total is None else float(total)
        except (KeyError, TypeError, ValueError):
            return None
    uid, total = head[2], tail[1]
    plain = json.loads(uid) if b"\\" in uid else uid[1:-1].decode("utf-8", "surrogatepass")
    return int(head[1]), plain, math.nan if total == b"null" else float(total)


def _columns(lines: list[bytes]) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of these rows; NaN where there is no number. A line that is no JSON (a
    machine that lost its power leaves such) is a row without any.
    """
    try:
        table = pyarrow.json.read_json(pa.BufferReader(b"\n".join(lines)), READ, PARSE)
        if table.num_rows == len(lines):
            return {
                name: column.cast(pa.float64()).to_numpy()
                for name, column in zip(table.column_names, table.columns, strict=True)
                if is_metric(name) and (pa.types.is_floating(column.type) or _whole(column.type))
            }
    except pa.ArrowInvalid:
        pass
    rows = [_numbers(line) for line in lines]
    names = dict.fromkeys(name for row in rows for name in row if is_metric(name))
    return {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}


def _whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind))


def _numbers(line: bytes) -> dict[str, float]:
    row = record(line) or {}
    return {name: float(value) for name, value in row.items() if isinstance(value, (int, float))}
