"""One row of a manifest: what it holds, and how a raw row becomes one or why it does not.

Skip leaves the row out; Fault puts the whole table in doubt. Knows no tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unicodedata import normalize

from geoagent_rl.data.columns import is_missing
from geoagent_rl.data.images import BadImage, check_image
from geoagent_rl.geo.coordinates import read_degrees
from geoagent_rl.types import Prompt, Truth

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
    aliases: str = ""

    def prompt(self) -> Prompt:
        """Return what the policy is asked about this photograph."""
        truth = Truth(self.country, self.region, self.place, self.lat, self.lon)
        columns = {name: getattr(self, name) for name in FURTHER}
        told = {
            name: f"{value:g}" if isinstance(value, float) else value
            for name, value in columns.items()
            if value not in (None, "")
        }
        return Prompt(self.uid, self.image, truth, told)


# what rewards are told
FURTHER = ("domain", "entities", "aliases", "scene", "difficulty", "locatability")
NUMBERS = ("lat", "lon", "locatability", "difficulty")
COLUMNS = tuple(field.name for field in fields(Sample))


class Skip(Exception):
    """What is wrong with one row, which is left out; `reason` is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Fault(Skip):
    """What puts the whole table in doubt."""


def read_sample(
    row: dict[str, Any], root: Path, where: str, max_megapixels: float | None
) -> Sample:
    """Return a row as a sample. root: the folder that its image must be in; where: what messages
    call the row; max_megapixels None: its image is not looked at. Raises Skip and Fault.
    """
    texts = {name: text_of(row.get(name)) for name in COLUMNS if name not in NUMBERS}
    for name in ("uid", "image"):
        if not texts[name]:
            raise Fault(f"{name} is empty", f"{where}: {name} is empty; fill it or remove the row")
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
        raise Skip(f"image {error.kind}", str(error)) from None
    if lat is None or lon is None:
        raise Skip("no coordinates", "lat or lon is blank")
    return Sample(lat=lat, lon=lon, locatability=locatability, difficulty=difficulty, **texts)


def text_of(value: Any) -> str:
    """Return a cell as text without white space around it; "" for a missing value."""
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
        raise Fault(
            f"{name} is not a number",
            f"{where}: {name} is {str(value)[:40]!r}, not a number; correct it",
        )
    return number


def _degrees(value: Any, name: str, limit: float, where: str) -> float | None:
    degrees = None if is_missing(value) else read_degrees(value, name)
    if degrees is None and not is_missing(value):
        raise Fault(
            f"{name} is not a number",
            f"{where}: {name} is {str(value)[:40]!r}, not a number of degrees; correct it",
        )
    if degrees is not None and abs(degrees) > limit:
        raise Fault(OUT_OF_RANGE, f"{where}: {name} {degrees:g} is outside -{limit}..{limit}")
    return degrees


def _confined(image: str, root: Path, where: str) -> str:
    try:
        path = (root / image).resolve()
        if not path.exists():  # macOS writes letters with marks as two characters, others as one
            forms = (root / normalize(form, image) for form in ("NFC", "NFD"))
            path = next((found.resolve() for found in forms if found.exists()), path)
    except (OSError, ValueError, RuntimeError):  # too long, NUL byte, circle of links
        raise Fault(
            "image path unusable", f"{where}: {image[:80]!r} is not a path; correct it"
        ) from None
    if not path.is_relative_to(root):
        hint = (
            f"{where}: image {image!r} is outside {root}; keep the photographs beside the manifest"
        )
        raise Fault("image outside the folder", hint)
    return str(path)
