"""`data import`: a data set of any known kind -> a manifest, with an account of every row that did
not make it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from geoagent_rl.data import manifest
from geoagent_rl.data.images import DEFAULT_MAX_MEGAPIXELS, SUFFIXES
from geoagent_rl.data.importers.convert import Bad, Converter
from geoagent_rl.data.importers.exif import exif_rows
from geoagent_rl.data.importers.files import RawRow, data_files, raw_rows
from geoagent_rl.data.importers.kinds import POSITION, Kind, columns_of, kind_of
from geoagent_rl.data.names import fill_names
from geoagent_rl.data.photos import Finder
from geoagent_rl.data.tables import FIRST_ROWS, Table
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.types import UserError


@dataclass(frozen=True)
class Options:
    """How to import; the defaults find out by themselves."""

    kind: str = "auto"
    mapping: Mapping[str, str] = field(default_factory=dict)  # ours -> theirs
    images: Path | None = None  # folder of the photographs, where it is not the table's
    copy: bool = False  # link or copy photographs into images/ beside the manifest
    fill_names: bool = True  # rows get names that they lack from the nearest town
    geocode: bool = False  # rows without coordinates get those of their names
    max_image_megapixels: float = DEFAULT_MAX_MEGAPIXELS


def _check_own_input(source: Path, out: Path) -> None:
    """Refuse to write a manifest over what is being read; over an earlier one is all right."""
    inside = out.resolve().is_relative_to(source.resolve()) and out.stem != "manifest"
    if source.resolve() == out.resolve() or (out.exists() and inside):
        raise UserError(f"{out} is a part of {source}, which is being read; write it elsewhere")


def import_dataset(source: Path, out: Path, options: Options) -> manifest.Loaded:
    """Write the manifest `out` and return what became of every row. Raises UserError where none is
    left.
    """
    if not source.exists():
        raise UserError(f"there is no file or folder {source}")
    manifest.check_name(out)
    _check_own_input(source, out)
    kind, rows = _open(source, options)
    root = options.images or (source if source.is_dir() else source.parent)
    columns, rows = _columns(kind, rows, options.mapping)
    absent = set() if POSITION in columns else {"lat", "lon"} - set(columns)
    if absent and not options.geocode:
        there, rows = _peek(rows)
        faults = [
            f", and {row.where} {row.fault}"
            for row in itertools.islice(rows, FIRST_ROWS)
            if row.fault
        ]
        raise UserError(
            f"{source} has no column for {' and '.join(sorted(absent))}; its columns are "
            f"{', '.join(there) or 'none'}{''.join(faults[:1])}; name it with --map lat=..., or let --geocode take "
            "the positions of the names"
        )
    converter = Converter(kind, columns, Finder(root, _files(root)), out.parent, options.copy)
    good, bad = _convert(converter, rows)
    filled = _fill(good, options)
    total = len(good) + sum(map(len, bad.values()))
    losses = _losses(bad, total)
    if not good:
        raise UserError(f"{source} has no usable row: {'; '.join(losses) or 'it is empty'}")
    table = Table(out.parent, [(n, row) for n, row in enumerate(good, start=1)])
    checked = manifest.check(table, source, options.max_image_megapixels, lenient=True)
    manifest.write(out, checked.samples)
    remarks = [
        f"{len(found)} {what} (first: {found[0]})" for what, found in converter.remarks.items()
    ]
    remarks += _without_row(converter.images)
    loaded = replace(
        checked, rows=total, skipped={why: len(found) for why, found in bad.items()} | checked.skipped,
        warnings=[*losses, *checked.warnings, *remarks], notes=[f"read as {kind.name}", *filled, *_used(columns)],
    )  # fmt: skip
    manifest.log_warnings(loaded)
    return loaded


def _open(source: Path, options: Options) -> tuple[Kind, Iterator[RawRow]]:
    kind_of(options.kind, (), "")  # refuses a name that no kind has
    own = next((p for name in manifest.FILES if (p := source / name).is_file()), None)
    if own and options.kind in ("auto", "photos"):
        return kind_of("photos", (), ""), raw_rows([own])
    try:
        files = [] if options.kind == "exif" else data_files(source)
    except UserError:
        if options.kind != "auto" or not source.is_dir():
            raise
        files = []
    if not files:
        return kind_of("exif", (), ""), exif_rows(source)
    rows = raw_rows(files)
    first, rows = _peek(rows)
    return kind_of(options.kind, first, files[0].name), rows


def _peek(rows: Iterator[RawRow]) -> tuple[list[str], Iterator[RawRow]]:
    """Return (the columns of the first rows, all rows)."""
    first = list(itertools.islice(rows, FIRST_ROWS))
    return list(dict.fromkeys(name for row in first for name in row.values)), itertools.chain(
        first, rows
    )


def _columns(
    kind: Kind, rows: Iterator[RawRow], mapping: Mapping[str, str]
) -> tuple[dict[str, str], Iterator[RawRow]]:
    there, rows = _peek(rows)
    if kind.name == "exif":
        there = ["uid", "image", "lat", "lon"]
    return columns_of(kind, there, mapping), rows


def _files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)


def _convert(
    converter: Converter, rows: Iterable[RawRow]
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    good: list[dict[str, Any]] = []
    bad: dict[str, list[str]] = {}
    for raw in rows:
        try:
            if raw.fault:
                raise Bad("cannot be read", raw.fault)
            good.append(converter.row(raw.values, raw.split, raw.where))
        except Bad as error:
            bad.setdefault(error.reason, []).append(
                f"{raw.where}: {error.detail}" if error.detail else raw.where
            )
    return good, bad


def _fill(rows: list[dict[str, Any]], options: Options) -> list[str]:
    """Names from positions and positions from names, where asked for; says how many."""
    said = []
    lost = [row for row in rows if row["lat"] is None or row["lon"] is None]
    if options.geocode and lost:
        gazetteer, found = Gazetteer.open(), 0
        for row in lost:
            match = gazetteer.geocode(row["country"], row["region"], row["place"])
            if match:
                row["lat"], row["lon"], found = match.lat, match.lon, found + 1
        said.append(
            f"{found} of {len(lost)} rows without coordinates got those of their names (offline gazetteer)"
        )
    if options.fill_names and (gained := fill_names(rows)):
        said.append(f"{gained} rows got names that they lacked from the nearest town of GeoNames")
    return said


def _without_row(images: Finder) -> list[str]:
    """Return, of a data set whose photographs are files, those that no row names."""
    left = sorted(images.files - images.taken) if images.taken else []
    return (
        [f"{len(left)} images without a row are left out (first: {left[0].name})"] if left else []
    )


def _losses(bad: Mapping[str, list[str]], total: int) -> list[str]:
    return [
        f"{len(found)} of {total} rows left out, {why} (first: {found[0]})"
        for why, found in bad.items()
    ]


def _used(columns: Mapping[str, str]) -> list[str]:
    return ["columns: " + ", ".join(f"{ours} from {theirs}" for ours, theirs in columns.items())]
