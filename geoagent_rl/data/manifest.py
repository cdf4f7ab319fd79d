"""The one dataset format: a table of photographs with their true places, as Parquet or JSONL beside
the image files.

| column          | type   | needed | meaning                                                      |
|-----------------|--------|--------|--------------------------------------------------------------|
| uid             | text   | yes    | unique in the manifest                                       |
| image           | text   | yes    | image file, relative to the manifest's folder, inside it     |
| lat, lon        | number | yes    | true position, degrees WGS84, -90..90 and -180..180          |
| country         | text   |        | English name of the country                                  |
| region, place   | text   |        | first-level region; city, town or village                    |
| cot             | text   |        | a completion for SFT: `<think>..</think><answer>..</answer>` |
| locatability    | number |        | 0 (cannot be located) .. 10                                  |
| scene           | text   |        | scene class, for buckets in evaluation                       |
| source, licence | text   |        | where the photograph comes from, on what terms               |
| split           | text   |        | train, heldout, ... as the data set says                     |
| domain          | text   |        | street, indoor, aerial, ...: what curriculum.mix counts      |
| difficulty      | number |        | the higher the harder: what curriculum.stages may sort by    |
| entities        | text   |        | things to see, separated by ";", for a reward term           |
| aliases         | text   |        | other names of the region, separated by "/", likewise        |

What happens to bad input. What puts the whole table in doubt stops with a UserError that names the
row; what concerns one photograph leaves out that row, counted in a warning. A manifest of which no
row is left is an error.

| input                                           | outcome                                        |
|-------------------------------------------------|------------------------------------------------|
| no such file, unknown kind, broken content      | UserError                                      |
| a needed column absent; uid or image empty      | UserError                                      |
| no rows                                         | UserError                                      |
| two rows with one uid                           | UserError with both rows                       |
| lat or lon out of range or not a number         | UserError with the row, and evidence of a swap |
| image path that leaves the manifest's folder    | UserError with the row (also through links)    |
| lat or lon blank                                | row skipped, counted                           |
| image file missing                              | row skipped, counted                           |
| image header unreadable, no image, or cut short | row skipped, counted                           |
| image above `max_image_megapixels`              | row skipped, counted; never decoded            |
| damage in the middle of an image file           | BadImage (a UserError) when it is opened       |
| swapped or radian coordinates suspected         | rows kept; warning with the evidence           |
| columns it does not know                        | ignored; named in the notes                    |

`geoagent-rl data validate` decodes every image in full and so names the damaged ones beforehand.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geoagent_rl.data import photos
from geoagent_rl.data.images import DEFAULT_MAX_MEGAPIXELS
from geoagent_rl.data.sample import (
    COLUMNS,
    NUMBERS,
    OUT_OF_RANGE,
    Fault,
    Sample,
    Skip,
    read_sample,
    text_of,
)
from geoagent_rl.data.tables import Table, header, whole_rows
from geoagent_rl.files import file_at_once
from geoagent_rl.geo.suspect import suspicions
from geoagent_rl.types import UserError

log = logging.getLogger(__name__)
LACKING = "lack some of their names; rewards leave these levels out"


FILES = ("manifest.parquet", "manifest.jsonl")  # of a folder; the first that is there
NEEDED = ("uid", "image", "lat", "lon")
SCHEMA = pa.schema([(name, pa.float64() if name in NUMBERS else pa.string()) for name in COLUMNS])


@dataclass(frozen=True)
class Loaded:
    """The usable samples of a manifest and an account of the rest: rows = len(samples) +
    sum(skipped.values()).
    """

    samples: list[Sample]
    rows: int
    skipped: dict[str, int]  # reason -> rows
    warnings: list[str]  # one line each, for the user
    notes: list[str]


def read(path: str | Path, max_image_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> list[Sample]:
    """Return the usable samples of a manifest; warnings go to the log. `path` as for load(). Raises
    UserError.
    """
    loaded = load(path, max_image_megapixels)
    log_warnings(loaded)
    return loaded.samples


def log_warnings(loaded: Loaded) -> None:
    """Log every warning of a loaded manifest."""
    for warning in loaded.warnings:
        log.warning("%s", warning)


def load(path: str | Path, max_image_megapixels: float | None = DEFAULT_MAX_MEGAPIXELS) -> Loaded:
    """Read and check a manifest: a .parquet or .jsonl file, a CSV of photographs, or a folder that
    holds one of these.

    A folder's manifest.parquet comes before its manifest.jsonl, and that before a CSV (see
    data/photos.py).
    max_image_megapixels None: the photographs need not be there and are not looked at. Raises
    UserError as the table in this module's docstring says."""
    return check(_table(Path(path)), path, max_image_megapixels)


def check(
    table: Table, path: str | Path, max_image_megapixels: float | None, lenient: bool = False
) -> Loaded:
    """Return the usable samples among rows as found; `path` is what messages call them. Raises
    UserError.

    `lenient` is for data that other programs made: a row that would stop with a UserError is left
    out and counted too."""
    if not table.rows:
        raise UserError(f"{path} has no rows; import or make some data first")
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    skipped: dict[str, list[str]] = {}
    root = table.root.resolve()
    for number, row in table.rows:
        uid = text_of(row.get("uid"))
        where = f"{path}, row {number}" + (f" ({uid})" if uid else "")
        try:
            if uid and seen.setdefault(uid, number) != number:
                raise Fault(
                    "uid used twice",
                    f"{where}: uid appears in row {seen[uid]} too; make uids unique",
                )
            samples.append(read_sample(row, root, where, max_image_megapixels))
        except Fault as fault:
            if not lenient:
                advice = (
                    f"; {_whole_table(table) or 'correct it'}"
                    if fault.reason == OUT_OF_RANGE
                    else ""
                )
                raise UserError(f"{fault}{advice}") from None
            skipped.setdefault(fault.reason, []).append(str(fault).removeprefix(f"{path}, "))
        except Skip as skip:
            skipped.setdefault(skip.reason, []).append(f"row {number}: {skip}")
    losses = [f"{len(found)} of {len(table.rows)} rows skipped, {reason} (first: {found[0]})"
              for reason, found in skipped.items()]  # fmt: skip
    if not samples:
        raise UserError(f"{path} has no usable row: {'; '.join(losses)}")
    evidence = suspicions(
        [s.lat for s in samples], [s.lon for s in samples], [s.country for s in samples]
    )
    without = []
    if blank := sum(not (s.country or s.region or s.place) for s in samples):
        without = [
            f"{blank} of {len(samples)} samples have no names; their semantic reward is left out"
        ]
    if some := sum(not (s.country and s.region and s.place) for s in samples) - blank:
        without += [f"{some} of {len(samples)} samples {LACKING}"]
    warnings = [*table.warnings, *losses, *without, *evidence]
    counts = {reason: len(found) for reason, found in skipped.items()}
    return Loaded(
        samples,
        len(table.rows),
        counts,
        [f"{path}: {line}" for line in warnings],
        list(table.notes),
    )


def write(path: str | Path, samples: Iterable[Sample]) -> Path:
    """Write samples as .parquet or .jsonl, image paths relative to the file's folder. Replaces the
    file in one step.

    Raises UserError for an unknown suffix, no samples, a repeated uid, or an image outside the
    folder."""
    path = Path(path)
    samples = list(samples)
    check_name(path)
    if not samples:
        raise UserError(f"no samples to write to {path}")
    if len({sample.uid for sample in samples}) < len(samples):
        raise UserError(f"samples with the same uid cannot be written to {path}; make uids unique")
    path.parent.mkdir(parents=True, exist_ok=True)
    root = path.parent.resolve()
    rows = [
        {**{name: getattr(s, name) for name in COLUMNS}, "image": _relative(s, root)}
        for s in samples
    ]
    with file_at_once(path) as part:
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), part)
        else:
            part.write_text(
                "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
                encoding="utf-8",
            )
    return path


def check_name(path: Path) -> None:
    """Raise UserError for a suffix that no manifest has."""
    if path.suffix not in (".parquet", ".jsonl"):
        raise UserError(f"{path}: a manifest's name ends in .parquet or .jsonl")


def _whole_table(table: Table) -> str:
    """Return what is suspicious about all coordinates together, before any row is checked."""
    try:
        lats, lons = ([float(row[name]) for _, row in table.rows] for name in ("lat", "lon"))
    except (KeyError, TypeError, ValueError):
        return ""
    return "; ".join(suspicions(lats, lons))


def _relative(sample: Sample, root: Path) -> str:
    path = Path(sample.image).resolve()
    if not path.is_relative_to(root):
        raise UserError(
            f"{sample.image} is outside {root}; write the manifest in the photographs' folder or above it"
        )
    return path.relative_to(root).as_posix()


def _table(path: Path) -> Table:
    if path.is_dir():
        for name in FILES:
            if (path / name).is_file():
                return _table(path / name)
        return photos.table(path)
    if not path.is_file():
        raise UserError(
            f"no manifest {path}; give a .parquet, a .jsonl or a folder of photographs with a CSV"
        )
    if path.suffix in (".csv", ".tsv"):
        return photos.table(path)
    if path.suffix not in (".parquet", ".jsonl"):
        raise UserError(
            f"{path}: a manifest is a .parquet, a .jsonl or a folder of photographs with a CSV"
        )
    rows = whole_rows(path, COLUMNS)
    names = set(header(path)) if path.suffix == ".parquet" else set().union(*(r for _, r in rows))
    absent = [name for name in NEEDED if name not in names]
    if rows and absent:
        raise UserError(
            f"{path} has no column {', '.join(absent)}; it has {', '.join(sorted(names)) or 'none'}"
        )
    strange = sorted(set(names) - set(COLUMNS))
    return Table(
        path.parent, rows, notes=(f"columns not used: {', '.join(strange)}",) if strange else ()
    )
