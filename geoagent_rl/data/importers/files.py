"""Raw rows of dataset files: Parquet, Arrow (datasets.save_to_disk), JSONL, JSON, CSV, TSV, or a
folder of them.

Rows come one by one, so photographs inside them never fill the memory. Knows no columns by name. A
Hugging Face dataset is read from its files alone: nothing is downloaded and no code of it is run.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geoagent_rl.types import UserError

SUFFIXES = (
    ".parquet",
    ".arrow",
    ".jsonl",
    ".json",
    ".csv",
    ".tsv",
)  # in a folder the first kind found is read
NOT_DATA = (
    "dataset_info.json",
    "state.json",
    "dataset_dict.json",
    "config.json",
    "dataset_infos.json",
    "manifest.parquet",
    "manifest.jsonl",
)  # the latter are ours, of an earlier import
ROWS_AT_ONCE = 64  # each may hold a photograph
SPLIT = re.compile(r"^(train|test|val|validation|dev)\b", re.IGNORECASE)
LONGEST_FIELD = 2**27


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as found. `fault` says why there is none; `where` is "file, row n" for messages."""

    where: str
    values: dict[str, Any]
    split: str = ""
    fault: str = ""


def data_files(source: Path) -> list[Path]:
    """The files of a dataset, sorted. Raises UserError where there is none."""
    if source.is_file():
        files = [source]
    else:
        found = [p for p in sorted(source.rglob("*")) if p.is_file() and p.name not in NOT_DATA]
        found = [
            p
            for p in found
            if not any(part.startswith(".") for part in p.relative_to(source).parts)
        ]
        kinds = [suffix for suffix in SUFFIXES if any(p.suffix == suffix for p in found)]
        files = [p for p in found if p.suffix == kinds[0]] if kinds else []
    if not files or files[0].suffix not in SUFFIXES:
        raise UserError(
            f"{source} holds no dataset: no {', '.join(SUFFIXES)} file; for photographs alone: --kind exif"
        )
    return files


def raw_rows(files: list[Path]) -> Iterator[RawRow]:
    """All rows in order. Raises UserError for a file that cannot be read at all."""
    csv.field_size_limit(LONGEST_FIELD)
    for file in files:
        split = _split_of(file)
        try:
            for number, values in enumerate(_values(file), start=1):
                where = f"{file.name}, row {number}"
                if isinstance(values, dict):
                    yield RawRow(where, values, split)
                else:
                    yield RawRow(where, {}, split, str(values))
        except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
            raise UserError(
                f"{file} cannot be read: {' '.join(str(error).split())[:200]}"
            ) from None


def _split_of(file: Path) -> str:
    """The split that a file's name or its folder's says: train-00000-of-00004.parquet, test.csv,
    validation/...
    """
    found = SPLIT.match(file.stem) or SPLIT.match(file.parent.name)
    return found[1].lower() if found else ""


def _values(file: Path) -> Iterator[dict[str, Any] | str]:
    """The file's rows; a text instead of a row says what is wrong with it."""
    if file.suffix == ".parquet":
        for batch in pq.ParquetFile(file).iter_batches(ROWS_AT_ONCE):
            yield from batch.to_pylist()
    elif file.suffix == ".arrow":
        with pa.memory_map(str(file)) as source:
            for batch in _arrow_batches(source):
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    yield from batch.slice(start, ROWS_AT_ONCE).to_pylist()
    elif file.suffix == ".jsonl":
        with file.open("rb") as lines:
            yield from (_json_row(line) for line in lines if line.strip())
    elif file.suffix == ".json":
        yield from _json_list(json.loads(file.read_bytes()))
    else:
        with file.open(encoding="utf-8-sig", newline="") as text:
            first = text.readline()
            text.seek(0)
            for row in csv.DictReader(text, delimiter=max(",;\t", key=first.count)):
                yield row if None not in row else f"has {len(row[None])} cells too many"


def _arrow_batches(source: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """Hugging Face writes the streaming format; other programs the file format."""
    try:
        yield from pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        reader = pa.ipc.open_file(source)
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))


def _json_row(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {str(error)[:80]}"
    return row if isinstance(row, dict) else "is not a JSON object"


def _json_list(value: Any) -> Iterator[dict[str, Any] | str]:
    """A list of objects, or {"data": [...]} and the like."""
    if isinstance(value, dict):
        value = next((v for v in value.values() if isinstance(v, list)), [value])
    yield from (row if isinstance(row, dict) else "is not a JSON object" for row in value)
