"""Rows of data files as they are found, before any check. Knows no columns by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geoagent_rl.types import UserError


@dataclass(frozen=True)
class Table:
    """Rows as found, before any check: (row number as the user would count, values by column), and
    what was noticed.
    """

    root: Path  # image paths are relative to it and confined to it
    rows: list[tuple[int, dict[str, Any]]]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def parquet_rows(
    path: Path, columns: Sequence[str]
) -> tuple[set[str], list[tuple[int, dict[str, Any]]]]:
    """(all column names, rows with those of `columns` that are there). Raises UserError."""
    try:
        names = set(pq.read_schema(path).names)
        table = pq.read_table(path, columns=[name for name in columns if name in names])
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is not readable Parquet: {' '.join(str(error).split())[:200]}"
        ) from None
    return names, list(enumerate(table.to_pylist(), start=1))


def jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects; blank lines are passed over. Raises UserError."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}, row {number} is not JSON: {str(error)[:120]}") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, row {number} is not a JSON object")
            yield number, row
