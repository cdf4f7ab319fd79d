"""The one reader of tables: CSV, TSV, JSONL, JSON, Parquet and Arrow files, as rows or as columns.

Knows how people write tables (delimiters, byte order marks, ragged lines) and nothing of what is in
them. Nothing is downloaded and no code of a data set is run."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geoagent_rl.files import parse_json
from geoagent_rl.types import UserError

ROWS_AT_ONCE = 64  # of `rows`; each may hold a photograph
BATCH_ROWS = 65_536
JSON_ROWS = 8_192  # dictionaries need far more memory than columns
BLOCK_BYTES = 16 * 2**20  # of CSV read at once
LONGEST_FIELD = 2**27
FIRST_ROWS = 50  # in which every column must appear once (JSON rows may lack some)
BOM = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Found:
    """One row as found. `number` is what the user would count: the line of a text file, the row of
    another. `fault` says why there are no values.
    """

    number: int
    values: dict[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class Table:
    """All rows as found, before any check: (number, values by column), and what was noticed."""

    root: Path  # image paths are relative to it and confined to it
    rows: list[tuple[int, dict[str, Any]]]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def rows(path: Path, columns: Sequence[str] = ()) -> Iterator[Found]:
    """Yield a file's rows one by one, so that photographs inside them never fill the memory.

    columns: the only ones that are wanted (of Parquet the others are not read). Blank lines are
    passed over; a row that cannot be read has a fault. Raises UserError for a file that cannot be
    read at all."""
    if path.suffix.lower() not in READERS:
        raise UserError(f"{path}: a table is a {', '.join(READERS)} file")
    with _one_line_errors(path):
        yield from READERS[path.suffix.lower()](path, columns)


def whole_rows(path: Path, columns: Sequence[str] = ()) -> list[tuple[int, dict[str, Any]]]:
    """Return all rows with their numbers. Raises UserError that names the first that cannot be
    read.
    """
    found = []
    for row in rows(path, columns):
        if row.fault:
            raise UserError(f"{path}, row {row.number} {row.fault}")
        found.append((row.number, row.values))
    return found


def count_rows(path: Path) -> int:
    """Return how many rows a file has (of Parquet, without reading them). Raises UserError."""
    if path.suffix == ".parquet":
        with _one_line_errors(path):
            return int(pq.read_metadata(path).num_rows)
    return sum(1 for _ in rows(path))


def to_float(value: Any) -> float:
    """Return a cell's number; NaN for what is blank or no number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def header(path: Path) -> list[str]:
    """Return the names of a file's columns; of JSON those of the first rows. Raises UserError."""
    with _one_line_errors(path):
        if path.suffix == ".parquet":
            return list(pq.read_schema(path).names)
        if path.suffix in (".csv", ".tsv"):
            return _csv_header(path)
        first = itertools.islice(rows(path), FIRST_ROWS)
        return list(dict.fromkeys(name for row in first for name in row.values))


def batches(
    path: Path,
    columns: list[str] | None,
    wanted: NDArray[Any] | None = None,
    lost: Counter[str] | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet, CSV, TSV or JSONL file as Arrow tables, CSV cells as texts.

    columns: None for all. A line of CSV that has too many or too few cells is no row; `lost` counts
    them. One that is no JSON object is a row of nulls; so are JSON rows outside `wanted` (their
    numbers from 0), which need not be read. Raises UserError."""
    with _one_line_errors(path):
        if path.suffix == ".parquet":
            reader = pq.ParquetFile(path)
            size = BATCH_ROWS if columns else max(1, min(BATCH_ROWS, _rows_of(256 * 2**20, reader)))
            for batch in reader.iter_batches(size, columns=columns):
                yield pa.Table.from_batches([batch])
        elif path.suffix == ".jsonl":
            yield from _json_batches(path, columns, wanted)
        else:
            yield from _csv_batches(path, columns, Counter() if lost is None else lost)


@contextlib.contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Raise what the libraries raise for a file that cannot be read as one UserError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error.reason}") from None
    except (pa.ArrowException, OSError, ValueError, KeyError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read: {reason}") from None


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Found]:
    file = pq.ParquetFile(path)
    wanted = [name for name in file.schema_arrow.names if name in columns] if columns else None
    number = itertools.count(1)
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=wanted):
        yield from (Found(next(number), values) for values in batch.to_pylist())


def _arrow_rows(path: Path, _columns: Sequence[str]) -> Iterator[Found]:
    number = itertools.count(1)
    with pa.memory_map(str(path)) as source:
        for batch in _arrow_batches(source):
            for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                found = batch.slice(start, ROWS_AT_ONCE).to_pylist()
                yield from (Found(next(number), values) for values in found)


def _arrow_batches(source: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """Hugging Face writes the streaming format; other programs the file format."""
    try:
        yield from pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        reader = pa.ipc.open_file(source)
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))


def _jsonl_rows(path: Path, _columns: Sequence[str]) -> Iterator[Found]:
    for number, line in _json_lines(path):
        yield _found(number, line)


def _json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers and lines that are not blank."""
    with path.open("rb") as lines:
        first = True
        for number, line in enumerate(lines, start=1):
            text = line.removeprefix(BOM).strip()
            if first and text.startswith(b"["):
                raise UserError(
                    f"{path}, row {number} is not a JSON object: the file is one JSON array; write an object on each "
                    "line, or name it .json for `data import`"
                )
            if text:
                first = False
                yield number, text


def _found(number: int, line: bytes) -> Found:
    try:
        values = parse_json(line)
    except ValueError as error:
        return Found(number, {}, f"is not JSON: {str(error)[:120]}")
    return _object(number, values)


def _object(number: int, values: Any) -> Found:
    if isinstance(values, dict):
        return Found(number, values)
    return Found(number, {}, "is not a JSON object")


def _json_rows(path: Path, _columns: Sequence[str]) -> Iterator[Found]:
    """Yield the rows of a list of objects, or of {"data": [...]} and the like."""
    value = parse_json(path.read_bytes())
    if isinstance(value, dict):
        value = next((v for v in value.values() if isinstance(v, list)), [value])
    yield from (_object(number, row) for number, row in enumerate(value, start=1))


def _csv_rows(path: Path, _columns: Sequence[str]) -> Iterator[Found]:
    csv.field_size_limit(LONGEST_FIELD)
    names, delimiter = _csv_header(path), _delimiter(path)
    with path.open(encoding=_encoding(path), newline="") as text:
        reader = csv.DictReader(text, names, delimiter=delimiter, skipinitialspace=True)
        next(reader, None)
        for values in reader:
            too_many = values.pop(None, ())
            fault = f"has {len(too_many)} cells too many" if too_many else ""
            yield Found(reader.line_num, {} if fault else values, fault)


def _csv_header(path: Path) -> list[str]:
    with path.open(encoding=_encoding(path), newline="") as text:
        names = next(csv.reader(text, delimiter=_delimiter(path), skipinitialspace=True), [])
    names = [name.strip() for name in names]
    if twice := next((name for name in names if name and names.count(name) > 1), ""):
        raise UserError(f"{path} has two columns {twice}; rename or remove one of them")
    return names


def _delimiter(path: Path) -> str:
    with path.open(encoding=_encoding(path)) as text:
        first = text.readline()
    return "\t" if path.suffix == ".tsv" and "\t" in first else max(",;\t|", key=first.count)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in UTF16 else "utf-8-sig"


READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[Found]]] = {
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
}


def _rows_of(budget: int, reader: pq.ParquetFile) -> int:
    """How many whole rows fit into so many bytes (rows may hold photographs)."""
    meta = reader.metadata
    total = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    return int(budget * max(meta.num_rows, 1) // max(total, 1))


def _csv_batches(path: Path, columns: list[str] | None, lost: Counter[str]) -> Iterator[pa.Table]:
    def skip(_: Any) -> str:
        lost["lines with too many or too few cells"] += 1
        return "skip"

    names = _csv_header(path)
    # Everything as text: pyarrow would infer types from the first block and fail on a later one.
    types = dict.fromkeys(names, pa.string())
    encoding = "utf8" if _encoding(path) == "utf-8-sig" else "utf-16"
    reader = pyarrow.csv.open_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(
            block_size=BLOCK_BYTES, column_names=names, skip_rows_after_names=1, encoding=encoding
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=_delimiter(path), newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, include_columns=columns),
    )
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _json_batches(
    path: Path, columns: list[str] | None, wanted: NDArray[Any] | None
) -> Iterator[pa.Table]:
    keep = None if wanted is None else set(wanted.tolist())
    numbered = enumerate(_json_lines(path))
    while part := list(itertools.islice(numbered, JSON_ROWS)):
        found = [
            _found(number, line).values if keep is None or i in keep else {}
            for i, (number, line) in part
        ]
        names = columns or list(dict.fromkeys(name for values in found for name in values))
        yield pa.table(
            {name: _column([values.get(name) for values in found]) for name in names or ["lat"]}
        )


def _column(values: list[Any]) -> pa.Array:
    """Return the values of one type if they are, else as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        texts = [
            v if isinstance(v, str) or v is None else json.dumps(v, ensure_ascii=False)
            for v in values
        ]
        return pa.array(texts)
