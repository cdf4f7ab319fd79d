"""The files of a data set and their raw rows, with the split that a file's name says.

A Hugging Face dataset (also of datasets.save_to_disk) is read from its files alone. Knows no
columns by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoagent_rl.data.tables import READERS, rows
from geoagent_rl.types import UserError

SUFFIXES = tuple(READERS)  # in a folder the first kind found is read
NOT_DATA = (
    "dataset_info.json",
    "state.json",
    "dataset_dict.json",
    "config.json",
    "dataset_infos.json",
    "manifest.parquet",
    "manifest.jsonl",
)  # the latter are ours, of an earlier import
SPLIT = re.compile(r"^(train|test|val|validation|dev)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as found. `fault` says why there is none; `where` is "file, row n" for messages."""

    where: str
    values: dict[str, Any]
    split: str = ""
    fault: str = ""


def data_files(source: Path) -> list[Path]:
    """Return the files of a dataset, sorted. Raises UserError where there is none."""
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
    """Yield all rows in order. Raises UserError for a file that cannot be read at all."""
    for file in files:
        split = _split_of(file)
        for row in rows(file):
            yield RawRow(f"{file.name}, row {row.number}", row.values, split, row.fault)


def _split_of(file: Path) -> str:
    """Return the split that a file's name or its folder's says: train-00000-of-00004.parquet,
    test.csv, validation/...
    """
    found = SPLIT.match(file.stem) or SPLIT.match(file.parent.name)
    return found[1].lower() if found else ""
