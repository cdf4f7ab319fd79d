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
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pyarrow as pa
import pyarrow.parquet as pq

from geoagent_rl.data import photos
from geoagent_rl.data.columns import is_missing
from geoagent_rl.data.images import DEFAULT_MAX_MEGAPIXELS, BadImage, check_image
from geoagent_rl.data.tables import Table, header, whole_rows
from geoagent_rl.files import file_at_once
from geoagent_rl.geo.coordinates import read_degrees
from geoagent_rl.geo.suspect import suspicions
from geoagent_rl.types import Prompt, Truth, UserError

log = logging.getLogger(__name__)
OUT_OF_RANGE = "coordinates out of range"


@dataclass(frozen=True, slots=True)
class Sample:
    """One row. `image` is an absolute path whose header has been checked; texts are "" where
    absent.
    """

    uid: str
    image: str
    country: str
    region: str
    place: str
    lat: float
    lon: float
    cot: str = ""
    locatability: float | None = None
    scene: str = ""
    source: str = ""
    licence: str = ""
    split: str = ""
    domain: str = ""
    difficulty: float | None = None
    entities: str = ""

    def prompt(self) -> Prompt:
        """Return what the policy is asked about this photograph."""
        truth = Truth(self.country, self.region, self.place, self.lat, self.lon)
        columns = {"domain": self.domain, "entities": self.entities}
        return Prompt(self.uid, self.image, truth, {k: v for k, v in columns.items() if v})


NUMBERS = ("lat", "lon", "locatability", "difficulty")
COLUMNS = tuple(field.name for field in fields(Sample))
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
        uid = _text(row.get("uid"))
        where = f"{path}, row {number}" + (f" ({uid})" if uid else "")
        try:
            if uid and seen.setdefault(uid, number) != number:
                raise _Fault(
                    "uid used twice",
                    f"{where}: uid appears in row {seen[uid]} too; make uids unique",
                )
            samples.append(_sample(row, root, where, max_image_megapixels))
        except _Fault as fault:
            if not lenient:
                advice = (
                    f"; {_whole_table(table) or 'correct it'}"
                    if fault.reason == OUT_OF_RANGE
                    else ""
                )
                raise UserError(f"{fault}{advice}") from None
            skipped.setdefault(fault.reason, []).append(str(fault).removeprefix(f"{path}, "))
        except _Skip as skip:
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
        without += [
            f"{some} of {len(samples)} samples lack some of their names; rewards leave these levels "
            "out"
        ]
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


class _Skip(Exception):
    """What is wrong with one row, which is left out; `reason` is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Fault(_Skip):
    """What puts the whole table in doubt."""


def _sample(row: dict[str, Any], root: Path, where: str, max_megapixels: float | None) -> Sample:
    texts = {name: _text(row.get(name)) for name in COLUMNS if name not in NUMBERS}
    for name in ("uid", "image"):
        if not texts[name]:
            raise _Fault(f"{name} is empty", f"{where}: {name} is empty; fill it or remove the row")
    lat, lon = (
        _degrees(row.get("lat"), "lat", 90, where),
        _degrees(row.get("lon"), "lon", 180, where),
    )
    locatability, difficulty = (
        _number(row.get(name), name, where) for name in ("locatability", "difficulty")
    )
    texts["image"] = _confined(texts["image"], root, where)
    try:
        if max_megapixels is not None:
            check_image(texts["image"], max_megapixels)
    except BadImage as error:
        raise _Skip(f"image {error.kind}", str(error)) from None
    if lat is None or lon is None:
        raise _Skip("no coordinates", "lat or lon is blank")
    return Sample(lat=lat, lon=lon, locatability=locatability, difficulty=difficulty, **texts)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).encode("utf-8", "replace").decode("utf-8").strip()


def _number(value: Any, name: str, where: str) -> float | None:
    if is_missing(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        raise _Fault(
            f"{name} is not a number",
            f"{where}: {name} is {str(value)[:40]!r}, not a number; correct it",
        )
    return number


def _degrees(value: Any, name: str, limit: float, where: str) -> float | None:
    degrees = None if is_missing(value) else read_degrees(value, name)
    if degrees is None and not is_missing(value):
        raise _Fault(
            f"{name} is not a number",
            f"{where}: {name} is {str(value)[:40]!r}, not a number of degrees; correct it",
        )
    if degrees is not None and abs(degrees) > limit:
        raise _Fault(OUT_OF_RANGE, f"{where}: {name} {degrees:g} is outside -{limit}..{limit}")
    return degrees


def _confined(image: str, root: Path, where: str) -> str:
    try:
        path = (root / image).resolve()
        if not path.exists():  # macOS writes letters with marks as two characters, others as one
            forms = (root / normalize(form, image) for form in ("NFC", "NFD"))
            path = next((found.resolve() for found in forms if found.exists()), path)
    except (OSError, ValueError, RuntimeError):  # too long, NUL byte, circle of links
        raise _Fault(
            "image path unusable", f"{where}: {image[:80]!r} is not a path; correct it"
        ) from None
    if not path.is_relative_to(root):
        hint = (
            f"{where}: image {image!r} is outside {root}; keep the photographs beside the manifest"
        )
        raise _Fault("image outside the folder", hint)
    return str(path)


def _relative(sample: Sample, root: Path) -> str:
    path = Path(sample.image).resolve()
    if not path.is_relative_to(root):
        raise UserError(
            f"{sample.image} is outside {root}; write the manifest in the photographs' folder or above it"
        )
    return path.relative_to(root).as_posix()


def _table(path: Path) -> Table:
    if path.is_dir():
        for name in ("manifest.parquet", "manifest.jsonl"):
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
