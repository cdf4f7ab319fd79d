"""Candidate pools of any size, read in batches: Parquet, CSV/TSV and JSONL files with coordinates,
or a folder of them.

A pool is a table of rows that need not have photographs yet (OSV-5M's metadata lists 5 million
before anybody downloads one). Only `lat` and `lon` are needed; columns are found by the names that
data/photos.py knows."""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geoagent_rl.data.photos import ALIASES, fold
from geoagent_rl.types import UserError

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")
BATCH_ROWS = 65_536
JSON_ROWS = 8_192  # dictionaries need far more memory than columns
BLOCK_BYTES = 16 * 2**20  # of CSV read at once


@dataclass(frozen=True)
class Pool:
    """The files of a pool and the names of its columns."""

    path: Path
    files: tuple[Path, ...]
    lat: str
    lon: str
    country: str  # "" where the pool names no countries
    columns: tuple[str, ...]

    @property
    def image(self) -> str:
        """The column of image paths; "" where there is none, or where it holds the photographs
        themselves.
        """
        name = _find("image", self.columns)
        if name and self.files[0].suffix == ".parquet":
            kind = pq.read_schema(self.files[0]).field(name).type
            return name if pa.types.is_string(kind) or pa.types.is_large_string(kind) else ""
        return name

    @property
    def uid(self) -> str:
        return _find("uid", self.columns)

    @property
    def root(self) -> Path:
        """The folder that image paths are relative to."""
        return self.path if self.path.is_dir() else self.path.parent


def open_pool(path: Path, lat: str = "", lon: str = "", country: str = "") -> Pool:
    """Finds the files and columns; names given here go before what is found. Raises UserError."""
    if path.is_dir():
        manifests = [
            path / name
            for name in ("manifest.parquet", "manifest.jsonl")
            if (path / name).is_file()
        ]
        # Hidden files and folders are other programs' (lock files, caches).
        found = sorted(
            p for p in path.rglob("*") if p.suffix in SUFFIXES and not p.name.startswith(".")
        )
        files = manifests[:1] or [p for p in found if p.suffix == found[0].suffix]
    else:
        files = [path] if path.is_file() else []
    if not files or files[0].suffix not in SUFFIXES:
        raise UserError(
            f"{path} is no pool: give a {', '.join(SUFFIXES)} file with coordinates, or a folder of them"
        )
    columns = _columns(files[0])
    names = {name: given or _find(name, columns) for name, given in
             (("lat", lat), ("lon", lon), ("country", country))}  # fmt: skip
    absent = [name for name in ("lat", "lon") if not names[name]]
    absent += [given for given in (lat, lon, country) if given and given not in columns]
    if absent:
        have = ", ".join(columns) or "none"
        raise UserError(
            f"{files[0]} has no column {', '.join(absent)}; its columns are {have}; rename "
            "them (`data sample` also takes --lat, --lon and --country)"
        )
    return Pool(path, tuple(files), columns=tuple(columns), **names)


def positions(
    pool: Pool, lost: Counter[str] | None = None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.object_] | None]]:
    """(lat, lon, country texts or None) of the pool's rows in order, in batches. What is no number
    is NaN.

    A line of CSV that has too many or too few cells is no row; `lost` counts them. One that is no
    JSON has no position."""
    wanted = [pool.lat, pool.lon] + ([pool.country] if pool.country else [])
    for file in pool.files:
        for table in _batches(file, wanted, lost=lost):
            lat, lon = (
                pandas.to_numeric(table[name].to_pandas(), errors="coerce")
                for name in (pool.lat, pool.lon)
            )
            named = (
                table[pool.country].to_pandas().fillna("").astype(str).to_numpy()
                if pool.country
                else None
            )
            yield lat.to_numpy(np.float64), lon.to_numpy(np.float64), named


def texts(pool: Pool, column: str) -> Iterator[NDArray[np.object_]]:
    """One column of the pool as texts ("" where blank), in the batches of `positions`."""
    for file in pool.files:
        for table in _batches(file, [column]):
            yield table[column].to_pandas().fillna("").astype(str).to_numpy()


def chosen_rows(pool: Pool, chosen: NDArray[np.int64]) -> Iterator[pa.Table]:
    """The rows with the given numbers (sorted, from 0 over all files), whole, in tables of moderate
    size.
    """
    start, loose = 0, []
    for file in pool.files:
        for table in _batches(file, None, chosen - start):
            inside = chosen[(chosen >= start) & (chosen < start + table.num_rows)] - start
            start += table.num_rows
            if (
                len(inside) and file.suffix == ".jsonl"
            ):  # each batch has the columns and types that it happens to have
                loose.append(table.take(pa.array(inside)))
            elif len(inside):
                yield table.take(pa.array(inside))
    if loose:
        yield pa.concat_tables(loose, promote_options="permissive")


def _columns(file: Path) -> list[str]:
    try:
        if file.suffix == ".parquet":
            return pq.read_schema(file).names
        if file.suffix == ".jsonl":
            with file.open("rb") as lines:
                return list(json.loads(next(iter(lines), b"{}")))
        with file.open(encoding="utf-8-sig", newline="") as text:
            return next(csv.reader([text.readline()], delimiter=_delimiter(file)), [])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _delimiter(file: Path) -> str:
    with file.open(encoding="utf-8-sig") as text:
        return max(",;\t", key=text.readline().count)


def _find(column: str, columns: Sequence[str]) -> str:
    return next((name for alias in ALIASES[column] for name in columns if fold(name) == alias), "")


def _batches(
    file: Path,
    columns: list[str] | None,
    wanted: NDArray[np.int64] | None = None,
    lost: Counter[str] | None = None,
) -> Iterator[pa.Table]:
    """The file's rows as tables. JSON objects outside `wanted` (row numbers) need not be read: they
    come as nulls.
    """
    try:
        if file.suffix == ".parquet":
            reader = pq.ParquetFile(file)
            rows = BATCH_ROWS if columns else max(1, min(BATCH_ROWS, _rows_of(256 * 2**20, reader)))
            for batch in reader.iter_batches(rows, columns=columns):
                yield pa.Table.from_batches([batch])
        elif file.suffix == ".jsonl":
            yield from _json_batches(file, columns, wanted)
        else:
            yield from _csv_batches(file, columns, Counter() if lost is None else lost)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _rows_of(budget: int, reader: pq.ParquetFile) -> int:
    """How many whole rows fit into so many bytes (rows may hold photographs)."""
    meta = reader.metadata
    total = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    return budget * max(meta.num_rows, 1) // max(total, 1)


def _csv_batches(file: Path, columns: list[str] | None, lost: Counter[str]) -> Iterator[pa.Table]:
    def skip(_: Any) -> str:
        lost["lines with too many or too few cells"] += 1
        return "skip"

    # Everything as text: pyarrow would infer types from the first block and fail on a later one.
    types = dict.fromkeys(_columns(file), pa.string())
    reader = pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=_delimiter(file), newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, include_columns=columns),
    )
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _json_batches(
    file: Path, columns: list[str] | None, wanted: NDArray[np.int64] | None
) -> Iterator[pa.Table]:
    keep = None if wanted is None else set(wanted.tolist())
    with file.open("rb") as lines:
        numbered = ((i, line) for i, line in enumerate(line for line in lines if line.strip()))
        while part := list(itertools.islice(numbered, JSON_ROWS)):
            rows = [
                _json_row(line, columns) if keep is None or i in keep else {} for i, line in part
            ]
            names = columns or list(dict.fromkeys(name for row in rows for name in row))
            yield pa.table(
                {name: _column([row.get(name) for row in rows]) for name in names or ["lat"]}
            )


def _json_row(line: bytes, columns: list[str] | None) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = {}
    if not isinstance(row, dict):
        row = {}
    return row if columns is None else {name: row.get(name) for name in columns}


def _column(values: list[Any]) -> pa.Array:
    """Of one type if they are, else as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        texts = [
            v if isinstance(v, str) or v is None else json.dumps(v, ensure_ascii=False)
            for v in values
        ]
        return pa.array(texts)
