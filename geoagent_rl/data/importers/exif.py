"""A folder of photographs whose EXIF says where they were taken, as rows. Pixels are not looked at
here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from geoagent_rl.data.images import FORMATS, SUFFIXES
from geoagent_rl.data.importers.files import RawRow
from geoagent_rl.types import UserError

UNREADABLE = frozenset(
    (".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw")
)  # photographs all the same


def photographs(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise UserError(f"{folder} holds no photographs ({', '.join(sorted(SUFFIXES))})")
    return found


def exif_rows(folder: Path) -> Iterator[RawRow]:
    """One row per photograph: uid, image and, where EXIF has them, lat and lon in degrees."""
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in UNREADABLE):
        yield RawRow(
            path.name, {}, fault=f"{path.suffix[1:].upper()} is not supported; convert it to JPEG"
        )
    for path in photographs(folder):
        name = path.relative_to(folder).as_posix()
        values: dict[str, Any] = {"uid": name.replace("/", "_").rsplit(".", 1)[0], "image": name}
        position = gps(path)
        if position:
            values |= dict(zip(("lat", "lon"), position, strict=True))
        yield RawRow(name, values)


def gps(path: Path) -> tuple[float, float] | None:
    """(latitude, longitude) in degrees from EXIF; None where there is none, or none that can be
    used.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            block = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        lat = _degrees(block, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S")
        lon = _degrees(block, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W")
    # What Pillow raises for damaged files and blocks; a damaged image is counted when the manifest
    # is made.
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        ZeroDivisionError,
        OverflowError,
    ):
        return None
    return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None


def _degrees(block: Any, key: int, reference: int, negative: str) -> float:
    """Degrees, minutes and seconds -> degrees; NaN where one of them is no number."""
    parts = [float(part) for part in block[key]]
    value = sum(part / 60**i for i, part in enumerate(parts))
    sign = str(block.get(reference, "")).strip("\0 ").upper()[:1]
    return math.copysign(value, -1) if sign == negative else value
