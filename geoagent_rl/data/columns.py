"""What people call the columns of a table of photographs. Knows no files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# Of the manifest's columns; the first that a table has wins. Folded names, see `fold`.
ALIASES = {
    "uid": ("uid", "id", "imageid", "key"),
    "image": ("image", "file", "filename", "imagepath", "path", "img"),
    "lat": ("lat", "latitude", "gtlat", "truelat"),
    "lon": ("lon", "lng", "long", "longitude", "gtlon", "truelon"),
    "country": ("country", "countryname", "countryiso2", "iso2", "countrycode", "cc"),
    "region": ("region", "state", "province", "admin1"),
    "place": ("place", "city", "town", "location"),
    "cot": ("cot",),
    "locatability": ("locatability", "locatabilityscore"),
    "scene": ("scene", "sceneclass"),
    "source": ("source", "labelsource"),
    "licence": ("licence", "license"),
    "split": ("split",),
    "domain": ("domain",),
    "difficulty": ("difficulty",),
    "entities": ("entities",),
    "aliases": ("aliases", "regionaliases"),
}
FINER_PLACE = ("subregion", "county", "admin2")  # stand in for a blank place


MISSING = frozenset(
    ("", "nan", "none", "null", "na", "n/a", "nil", "unknown", "-", "--", "?", "#n/a", "\\n")
)


def is_missing(value: Any) -> bool:
    """Say whether a cell is blank, or a word by which programs and people write that there is no
    value."""
    if value is None or (isinstance(value, float) and value != value):
        return True
    return isinstance(value, str) and value.strip().casefold() in MISSING


def fold(name: str) -> str:
    """Return a column's name without case, white space, hyphens and underscores."""
    return re.sub(r"[\s_-]", "", name).casefold()


def find_column(columns: Iterable[str], aliases: Iterable[str]) -> str:
    """Return the column that is called by the first possible of `aliases`; "" where none is."""
    by_fold = {fold(column): column for column in reversed(list(columns))}
    return next((by_fold[alias] for alias in aliases if alias in by_fold), "")
