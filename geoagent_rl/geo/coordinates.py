"""Coordinates as people write them: decimal degrees, degrees with minutes and seconds, hemisphere
letters, E7 integers, WKT and GeoJSON order, named pairs.

One reader for answers, tables, commands and EXIF text. What is ambiguous or out of range is refused
with None; nothing is guessed. Knows no files and no places."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from geoagent_rl.files import parse_json

E7 = 1e7  # Google's Takeout writes degrees times ten million
_LAT_NAMES = (
    "lat",
    "latitude",
    "latitud",
    "latitudee7",
    "late7",
    "y",
    "ycoord",
    "breite",
    "широта",
    "纬度",
)
_LON_NAMES = ("lon", "lng", "long", "longitude", "longitud", "longitudee7", "lone7", "lnge7", "x", "xcoord",
              "länge", "laenge", "долгота", "经度")  # fmt: skip
_MINUS = str.maketrans({"−": "-", "–": "-", "—": "-", "﹣": "-", "－": "-", "，": ",", "；": ";", "º": "°", "˚": "°",
                        "′": "'", "’": "'", "‘": "'", "´": "'", "ʹ": "'", "″": '"', "”": '"', "“": '"', "ʺ": '"',
                        "\u00a0": " ", "\u202f": " "})  # fmt: skip
_NUMBER = r"\d+(?:[.,]\d+)?(?:e[+-]?\d+)?"
_HEMISPHERES = {
    "n": ("lat", 1), "north": ("lat", 1), "s": ("lat", -1), "south": ("lat", -1),
    "e": ("lon", 1), "east": ("lon", 1), "w": ("lon", -1), "west": ("lon", -1),
    "nord": ("lat", 1), "sud": ("lat", -1), "süd": ("lat", -1), "sur": ("lat", -1), "norte": ("lat", 1),
    "sul": ("lat", -1), "ost": ("lon", 1), "est": ("lon", 1), "este": ("lon", 1), "leste": ("lon", 1),
    "oeste": ("lon", -1), "ouest": ("lon", -1), "ovest": ("lon", -1),
    "с": ("lat", 1), "ю": ("lat", -1), "в": ("lon", 1), "з": ("lon", -1),
}  # fmt: skip
_WORD = "|".join(sorted(_HEMISPHERES, key=len, reverse=True))
_NAME = re.compile(r"^(lat(?:itude)?|lon(?:g|gitude)?|lng)(?![a-z])\s*[.:=]?\s*")
_WKT = re.compile(
    r"^(?:srid=\d+;)?\s*point\s*z?\s*\(\s*([-+\d.e]+)[\s,]+([-+\d.e]+)(?:\s+[-+\d.e]+)?\s*\)$", re.I
)
_GEO_URI = re.compile(r"^geo:\s*([-+\d.]+),([-+\d.]+)", re.IGNORECASE)
_NAMED = re.compile(
    r"[\"']?(?P<name>[a-zäа-я_一-龥]+?)(?:_?(?P<e7>e7))?[\"']?\s*[:=]\s*[\"']?(?P<value>[^,;{}&\"']*?(?:'[^,;{}&\"]*)?)"
    r"[\"']?(?=$|[,;{}&\s]+[\"']?[a-zäа-я_一-龥]+(?:e7)?[\"']?\s*[:=]|[\s,;}]*$)",
    re.IGNORECASE,
)
_ONLY = re.compile(
    rf"[\d\s.,;:/|()\[\]{{}}+\-°'\"=_*~≈<>]|(?:{_WORD}|lat(?:itude)?|lon(?:g|gitude)?|lng|deg(?:rees)?|point|gps|geo"
    r"|coordinates?|approx(?:imately)?|about|and)(?![a-zа-я])",
    re.IGNORECASE,
)
Pair = tuple[float, float]


def looks_like_position(text: str) -> bool:
    """Say whether this is nothing but numbers, signs, hemisphere letters and words such as "lat": a
    position or half of one."""
    plain = text.translate(_MINUS)
    return any(char.isdigit() for char in plain) and not _ONLY.sub("", plain).strip()


def read_degrees(value: Any, axis: str) -> float | None:
    """Return one latitude ("lat") or longitude ("lon") in degrees; None where `value` is none.

    Reads numbers, "48,137", "48.137 N", "S 33°51'35.9\\"", "33 51 35.9 S", "−33.86" and E7 integers
    (above 1000 in magnitude). None where a hemisphere is of the other axis, contradicts the sign,
    or minutes or seconds are 60 or more. Values out of range are returned for the caller to name.
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _scaled(float(value))
    text = str(value).translate(_MINUS).strip().casefold()
    found = _one(text)
    if found is None or found[1] not in ("", axis):
        return None
    return found[0]


def read_pair(value: Any) -> Pair | None:
    """Return (latitude, longitude) in degrees of one text, mapping or sequence; None where it is
    none.

    Reads "lat, lon" text with or without hemispheres, named pairs in either order
    ("lng=11.6&lat=48.1", {"lat": .., "lon": ..}), WKT "POINT (lon lat)", GeoJSON points ([lon, lat]
    under "coordinates") and "geo:" URIs. Plain sequences and text are latitude first, unless
    hemisphere letters say otherwise."""
    pair = _pair(value)
    if pair is None or abs(pair[0]) > 90 or abs(pair[1]) > 180:
        return None
    return pair


def _pair(value: Any) -> Pair | None:
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if len(value) not in (2, 3):
            return None
        return _both(read_degrees(value[0], "lat"), read_degrees(value[1], "lon"))
    if not isinstance(value, str):
        return None
    text = value.translate(_MINUS).strip()
    if found := _WKT.match(text):
        lon, lat = found.groups()
        return _both(read_degrees(lat, "lat"), read_degrees(lon, "lon"))
    if found := _GEO_URI.match(text):
        return _both(read_degrees(found[1], "lat"), read_degrees(found[2], "lon"))
    if text.startswith(("{", "[")) and (decoded := _json(text)) is not None:
        return _pair(decoded)
    if any(sign in text for sign in ":=") and (named := _named_pair(text)):
        return named
    return _of_text(text.strip("()[] ").casefold())


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _of_mapping(value: Mapping[Any, Any]) -> Pair | None:
    folded = {re.sub(r"[\s_-]", "", str(key)).casefold(): part for key, part in value.items()}
    if isinstance(folded.get("geometry"), Mapping):
        return _of_mapping(folded["geometry"])
    point = folded.get("coordinates")
    if isinstance(point, Sequence) and not isinstance(point, str) and len(point) in (2, 3):
        return _both(
            read_degrees(point[1], "lat"), read_degrees(point[0], "lon")
        )  # GeoJSON: lon first
    lat = next((folded[name] for name in _LAT_NAMES if name in folded), None)
    lon = next((folded[name] for name in _LON_NAMES if name in folded), None)
    if lat is None and lon is None and isinstance(folded.get("location"), Mapping):
        return _of_mapping(folded["location"])
    return _both(read_degrees(lat, "lat"), read_degrees(lon, "lon"))


def _named_pair(text: str) -> Pair | None:
    found = {
        (match["name"] + (match["e7"] or "")).casefold().replace("_", ""): match["value"].strip()
        for match in _NAMED.finditer(text)
    }
    return _of_mapping(found) if found else None


def _of_text(text: str) -> Pair | None:
    """Two values in a text: cut at the separator that leaves one value on either side."""
    for separator in (";", ", ", " / ", "/", "|", ",", "\t", " - ", None):
        parts = _cuts(text, separator)
        for left, right in parts:
            first, second = _one(left), _one(right)
            if first is None or second is None:
                continue
            axes = first[1], second[1]
            if axes in (("", ""), ("lat", "lon"), ("lat", ""), ("", "lon")):
                return first[0], second[0]
            if axes in (("lon", "lat"), ("lon", ""), ("", "lat")):
                return second[0], first[0]
            return None
    return None


def _cuts(text: str, separator: str | None) -> list[tuple[str, str]]:
    if separator is not None:
        pieces = text.split(separator)
        if len(pieces) == 2:
            return [(pieces[0].strip(), pieces[1].strip())]
        if separator == "," and len(pieces) == 4:  # 48,137,11,575
            return [(",".join(pieces[:2]), ",".join(pieces[2:]))]
        return []
    words = text.split()
    if len(words) == 2:
        return [(words[0], words[1])]
    # "48 8 14 N 11 34 31 E" and "N 48 8 14 E 11 34 31": equal halves only, so nothing is guessed
    half, odd = divmod(len(words), 2)
    if not odd:
        return [(" ".join(words[:half]), " ".join(words[half:]))]
    letters = [i for i, word in enumerate(words) if word.strip(".") in _HEMISPHERES]
    return [(" ".join(words[: i + 1]), " ".join(words[i + 1 :])) for i in letters[:1]]


def _one(text: str) -> tuple[float, str] | None:
    """(degrees, "lat", "lon" or "") of one value; None where the text is none."""
    name = _NAME.match(text.strip())
    named = {"": "", "la": "lat", "lo": "lon", "ln": "lon"}[name[1][:2] if name else ""]
    text = _NAME.sub("", text.strip())
    letters = re.findall(rf"(?<![a-zа-яü])({_WORD})(?![a-zа-яü])", text)
    axis, direction = _HEMISPHERES[letters[0]] if letters else (named, 0)
    if len(letters) > 1 or (named and axis != named):
        return None
    numbers = re.sub(rf"(?<![a-zа-яü])(?:{_WORD})(?![a-zа-яü])\.?", " ", text).strip()
    numbers = re.sub(r"(?:degrees|deg|d)\b", "°", numbers)
    numbers = re.sub(r"\bmin(?:utes)?\b", "'", numbers)
    numbers = re.sub(r"\bsec(?:onds)?\b", '"', numbers)
    shape = re.fullmatch(
        rf"([+-])?\s*({_NUMBER})\s*°?(?:[\s:]*({_NUMBER})\s*'?(?:[\s:]*({_NUMBER})\s*(?:\"|'')?)?)?",
        numbers,
    )
    if shape is None:
        return None
    sign, *parts = shape.groups()
    degrees, minutes, seconds = (float(part.replace(",", ".")) if part else 0.0 for part in parts)
    finer = parts[1] is not None
    if minutes >= 60 or seconds >= 60 or (finer and not degrees.is_integer()):
        return None
    if sign and direction and (sign == "-") == (direction > 0):
        return None  # "-33.9 N" contradicts itself; "-33.9 S" is said twice
    value = degrees + minutes / 60 + seconds / 3600
    if direction < 0 or sign == "-":
        value = -value
    scaled = value if finer else _scaled(value)
    return None if scaled is None else (scaled, axis)


def _scaled(value: float) -> float | None:
    """Degrees; integers far above 360 are degrees times ten million."""
    if not math.isfinite(value):
        return None
    return value / E7 if abs(value) >= 1_000 and value.is_integer() else value


def _both(lat: float | None, lon: float | None) -> Pair | None:
    return None if lat is None or lon is None else (lat, lon)
