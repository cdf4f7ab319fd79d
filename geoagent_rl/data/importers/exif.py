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
    """Yield one row per photograph: uid, image and, where EXIF has them, lat and lon in degrees."""
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in UNREADABLE):
        yield RawRow(
            path.name, {}, fault=f"{path.suffix[1:].upper()} is not supported; convert it to JPEG"
        )
    for path in photographs(folder):
        name = path.relative_to(folder).as_posix()
        values: dict[str, Any] = {"uid": name.replace("/", "_").rsplit(".", 1)[0], "image": name}
        position = gps(path)
        if isinstance(position, str):
            yield RawRow(name, {}, fault=position)
            continue
        if position:
            values |= dict(zip(("lat", "lon"), position, strict=True))
        yield RawRow(name, values)


def gps(path: Path) -> tuple[float, float] | str | None:
    """Return (latitude, longitude) in degrees from EXIF; None where there is none; a text: what is
    wrong.

    A position without its hemispheres is refused: Rio de Janeiro would lie in Arabia. So is 0, 0,
    which cameras write when they have no fix, and one that the camera itself calls void."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            block = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    # What Pillow raises for damaged files and blocks; a damaged image is counted when the manifest
    # is made.
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError):
        return None
    tags = ExifTags.GPS
    if tags.GPSLatitude not in block or tags.GPSLongitude not in block:
        return None
    if _is_empty(block[tags.GPSLatitude]) or _is_empty(block[tags.GPSLongitude]):
        return None
    lat = _degrees(block, tags.GPSLatitude, tags.GPSLatitudeRef, "NS")
    lon = _degrees(block, tags.GPSLongitude, tags.GPSLongitudeRef, "EW")
    if isinstance(lat, str) or isinstance(lon, str):
        return lat if isinstance(lat, str) else str(lon)
    if abs(lat) > 90 or abs(lon) > 180:
        return f"EXIF position {lat:g}, {lon:g} is out of range"
    if _letter(block.get(tags.GPSStatus)) == "V" or (lat == 0 and lon == 0):
        return "EXIF position is void (the camera had no fix)"
    return lat, lon


def _degrees(block: Any, key: int, reference: int, letters: str) -> float | str:
    """Degrees, minutes and seconds with their hemisphere -> degrees; a text says what is wrong."""
    try:
        parts = [float(part) for part in block[key]]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return "EXIF position is no number"
    if not 1 <= len(parts) <= 3 or not all(math.isfinite(part) and part >= 0 for part in parts):
        return "EXIF position is no number"
    if any(part >= 60 for part in parts[1:]):
        return "EXIF position has 60 minutes or seconds or more"
    hemisphere = _letter(block.get(reference))
    if hemisphere not in letters or not hemisphere:
        return "EXIF position does not say its hemisphere"
    value = sum(part / 60**i for i, part in enumerate(parts))
    return float(-value if hemisphere == letters[1] else value)


def _is_empty(value: Any) -> bool:
    """Is it 0/0 throughout, as some programs write where they know nothing?"""
    try:
        return all(math.isnan(float(part)) for part in value)
    except (TypeError, ValueError, OverflowError):
        return False
    except ZeroDivisionError:
        return True


def _letter(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip("\0 ").upper()[:1]
