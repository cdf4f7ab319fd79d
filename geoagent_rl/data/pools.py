"""Candidate pools of any size, read in batches: Parquet, CSV/TSV and JSONL files with coordinates,
or a folder of them.

A pool is a table of rows that need not have photographs yet (OSV-5M's metadata lists 5 million
before anybody downloads one). Only `lat` and `lon` are needed; columns are found by the names that
data/columns.py knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geoagent_rl.data.columns import ALIASES, find_column
from geoagent_rl.data.tables import batches, header
from geoagent_rl.types import UserError

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")


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
        """Return the column of image paths; "" where there is none, or where it holds the
        photographs themselves."""
        name = find_column(self.columns, ALIASES["image"])
        if name and self.files[0].suffix == ".parquet":
            kind = pq.read_schema(self.files[0]).field(name).type
            return name if pa.types.is_string(kind) or pa.types.is_large_string(kind) else ""
        return name

    @property
    def uid(self) -> str:
        """Name of the column with ids; "" where there is none."""
        return find_column(self.columns, ALIASES["uid"])

    @property
    def root(self) -> Path:
        """Return the folder that image paths are relative to."""
        return self.path if self.path.is_dir() else self.path.parent


def open_pool(path: Path, lat: str = "", lon: str = "", country: str = "") -> Pool:
    """Find the files and columns; names given here go before what is found. Raises UserError."""
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
    columns = header(files[0])
    names = {name: given or find_column(columns, ALIASES[name]) for name, given in
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
    """Yield (lat, lon, country texts or None) of the pool's rows in order, in batches. What is no
    number is NaN.

    A line of CSV that has too many or too few cells is no row; `lost` counts them. One that is no
    JSON has no position."""
    wanted = [pool.lat, pool.lon] + ([pool.country] if pool.country else [])
    for file in pool.files:
        for table in batches(file, wanted, lost=lost):
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
    """Yield one column of the pool as texts ("" where blank), in the batches of `positions`."""
    for file in pool.files:
        for table in batches(file, [column]):
            yield table[column].to_pandas().fillna("").astype(str).to_numpy()


def chosen_rows(pool: Pool, chosen: NDArray[np.int64]) -> Iterator[pa.Table]:
    """Yield the rows with the given numbers (sorted, from 0 over all files), whole, in tables of
    moderate size.
    """
    start, loose = 0, []
    for file in pool.files:
        for table in batches(file, None, chosen - start):
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
