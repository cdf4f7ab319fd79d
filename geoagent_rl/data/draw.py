"""`data sample`: draws a de-biased sample (data/sampling.py) from a pool of any size and reports
what was drawn.

The pool is read twice: once for countries and cells (4 bytes are kept per row), once for the rows
that were drawn. The same pool, options and seed give the same sample."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geoagent_rl.data.pools import Pool, chosen_rows, positions
from geoagent_rl.data.sampling import (
    CELLS,
    Quotas,
    cell_of,
    draw_cells,
    entropy_bits,
    quotas,
    shares,
)
from geoagent_rl.files import file_at_once
from geoagent_rl.geo.countries import Country, CountryCodes
from geoagent_rl.geo.nearest import NearestPlace
from geoagent_rl.types import UserError

NOWHERE = -1  # stratum of a row that cannot be drawn


@dataclass(frozen=True)
class Strata:
    """The pool in numbers: `stratum[i]` is country * CELLS + cell of row i, or NOWHERE."""

    codes: tuple[str, ...]  # countries by number
    stratum: NDArray[np.int32]
    population: NDArray[np.float64]  # by cell
    lost: Mapping[str, int]  # reason -> rows that cannot be drawn

    def counts(self, rows: NDArray[np.int64] | None = None) -> dict[str, int]:
        """Return rows by country, of all or of the rows given."""
        found = self.stratum if rows is None else self.stratum[rows]
        counted = np.bincount(found[found >= 0] // CELLS, minlength=len(self.codes))
        return {code: int(n) for code, n in zip(self.codes, counted, strict=True)}

    def cells(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return rows by cell (64,800), of all or of the rows given."""
        found = self.stratum if rows is None else self.stratum[rows]
        return np.bincount(found[found >= 0] % CELLS, minlength=CELLS)


@dataclass(frozen=True)
class Draw:
    """What was drawn: row numbers of the pool, sorted, and the account of it."""

    rows: NDArray[np.int64]
    quotas: Quotas
    strata: Strata
    uninhabited: int  # rows drawn from cells where the gazetteer knows no inhabitants

    def summary(self) -> dict[str, Any]:
        """Return the report in figures: JSON of `data sample --json` and of the report file."""
        q, before, after = self.quotas, self.strata.cells(), self.strata.cells(self.rows)
        names = zip(q.codes, q.share, q.requested, q.available, q.drawn, strict=True)
        n = int(q.requested.sum())
        lines: list[dict[str, Any]] = [
            {
                "iso2": code,
                "eq11": n * float(share),
                "requested": int(wanted),
                "available": int(there),
                "drawn": int(d),
            }
            for code, share, wanted, there, d in names
            if share > 0 or there
        ]
        return {
            "pool_rows": len(self.strata.stratum),
            "not_drawable": dict(self.strata.lost),
            "requested": n,
            "drawn": len(self.rows),
            "countries_drawn": int((q.drawn > 0).sum()),
            "countries_short": sum(line["available"] < line["requested"] for line in lines),
            "from_uninhabited_cells": self.uninhabited,
            "entropy_bits": {
                "countries": {"pool": entropy_bits(q.available), "drawn": entropy_bits(q.drawn)},
                "cells": {"pool": entropy_bits(before), "drawn": entropy_bits(after)},
            },
            "countries": sorted(lines, key=lambda line: -line["eq11"]),
        }


def stratify(pool: Pool, table: Mapping[str, Country]) -> Strata:
    """Read the pool once. Rows without a country of their own get that of the nearest populated
    place.
    """
    places = NearestPlace.open()
    codes = tuple(table)
    number = {code: i for i, code in enumerate(codes)}
    of_place = np.array(
        [number.get(place.country_code, NOWHERE) for place in places.places] + [NOWHERE]
    )
    code_of, lost = CountryCodes(), Counter[str]()
    parts: list[NDArray[np.int32]] = []
    for lat, lon, named in positions(pool, lost):
        sound = (np.abs(lat) <= 90) & (np.abs(lon) <= 180)
        lost["no usable coordinates"] += int((~sound).sum())
        country = np.full(len(lat), NOWHERE)
        if named is not None:
            which, texts = pandas.factorize(named)
            country = np.array([number.get(code_of(text), NOWHERE) for text in texts])[which]
        unnamed = np.flatnonzero(sound & (country == NOWHERE))
        if len(unnamed):
            country[unnamed] = of_place[places.find(lat[unnamed], lon[unnamed])[0]]
        usable = sound & (country != NOWHERE)
        lost["far from any known place, no country"] += int((sound & ~usable).sum())
        stratum = np.full(len(lat), NOWHERE, dtype=np.int32)
        stratum[usable] = country[usable] * CELLS + cell_of(lat[usable], lon[usable])
        parts.append(stratum)
    if not sum(map(len, parts)):
        raise UserError(f"{pool.path} has no rows")
    inhabitants = [float(place.population) for place in places.places]
    people = np.bincount(cell_of(places.lat, places.lon), inhabitants, minlength=CELLS)
    return Strata(
        codes,
        np.concatenate(parts),
        people.astype(np.float64),
        {why: rows for why, rows in lost.items() if rows},
    )


def draw(
    strata: Strata, table: Mapping[str, Country], n: int, minimum: int, exclude: Iterable[str], seed: int,
    redistribute: bool = True,
) -> Draw:  # fmt: skip
    """Draw by Eq. 11 over the countries, Eq. 12 over the cells of each, rows of a cell equally
    likely without replacement."""
    plan = quotas(n, shares(table, exclude), strata.counts(), minimum, redistribute)
    order = np.argsort(strata.stratum, kind="stable")  # rows by country and cell
    by_stratum = strata.stratum[order]
    chosen, uninhabited = [], 0
    for i, code in enumerate(strata.codes):
        quota = int(plan.drawn[plan.codes.index(code)]) if code in plan.codes else 0
        if not quota:
            continue
        rng = np.random.default_rng(
            (seed, *code.encode())
        )  # a country's draw does not hang on the others
        first, last = np.searchsorted(by_stratum, (i * CELLS, (i + 1) * CELLS))
        strata_here, starts, capacity = np.unique(
            by_stratum[first:last], return_index=True, return_counts=True
        )
        population = strata.population[strata_here % CELLS]
        taken = draw_cells(quota, capacity, population, rng)
        uninhabited += int(taken[population == 0].sum())
        for k in np.flatnonzero(taken):
            begin = first + starts[k]
            chosen.append(order[begin + rng.choice(capacity[k], taken[k], replace=False)])
    rows = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
    return Draw(rows, plan, strata, uninhabited)


def check_out(pool: Pool, out: Path) -> None:
    """Raise UserError for a file that cannot be written, or that the pool would have for a part of
    itself.
    """
    if out.suffix not in _WRITERS:
        raise UserError(f"{out}: the sample's name ends in .csv, .jsonl or .parquet")
    file = out.resolve()
    inside = (
        pool.path.is_dir()
        and file.is_relative_to(pool.path.resolve())
        and out.suffix == pool.files[0].suffix
    )
    if file in (path.resolve() for path in pool.files) or (
        inside and not pool.files[0].stem == "manifest"
    ):
        raise UserError(f"{out} would be a part of the pool {pool.path}; write it elsewhere")


def write_rows(pool: Pool, rows: NDArray[np.int64], out: Path) -> None:
    """Write the drawn rows with all their columns, as .csv, .jsonl or .parquet; image paths stay
    right. Raises UserError."""
    check_out(pool, out)
    if not len(rows):
        raise UserError(f"no row is left to write to {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    tables = (_moved(table, pool.root, out.parent) for table in chosen_rows(pool, rows))
    try:
        with file_at_once(out) as part:
            _WRITERS[out.suffix](tables, part)
    except (pa.ArrowException, OSError, TypeError) as error:  # TypeError: bytes have no JSON
        raise UserError(f"{out} cannot be written: {' '.join(str(error).split())[:200]}") from None


def _moved(table: pa.Table, root: Path, target: Path) -> pa.Table:
    """Paths in the column `image` are relative to the table's folder."""
    name = "image"
    if (
        root.resolve() == target.resolve()
        or name not in table.column_names
        or table[name].type != pa.string()
    ):
        return table
    paths = [
        p and os.path.relpath(root.resolve() / p, target.resolve()) for p in table[name].to_pylist()
    ]
    return table.set_column(table.column_names.index(name), name, pa.array(paths, pa.string()))


def _parquet(tables: Iterator[pa.Table], path: Path) -> None:
    """Piece by piece where the pool is Parquet too (rows may hold photographs): its tables have one
    schema.
    """
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(
                table.cast(first.schema) if table.column_names == first.column_names else table
            )


def _csv(tables: Iterator[pa.Table], path: Path) -> None:
    from pyarrow.csv import CSVWriter

    first = next(tables)
    with CSVWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _jsonl(tables: Iterator[pa.Table], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            rows = ({k: v for k, v in row.items() if v is not None} for row in table.to_pylist())
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


_WRITERS = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
