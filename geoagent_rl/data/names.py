"""Names for photographs that have coordinates and no names at all: those of the nearest town.

A row that names a country or a region only keeps its blanks: its author may have known no more,
and the reward leaves those levels out. Knows no files."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from geoagent_rl.geo.nearest import NearestPlace

LEVELS = ("country", "region", "place")
NEAR_KM = 25.0  # a town farther off is not called the place; its country and region are
Row = MutableMapping[str, Any]


def fill_names(rows: Sequence[Row]) -> int:
    """Fill the names of rows that have none in place, from "lat" and "lon"; returns how many."""
    nameless = [
        (row, position)
        for row in rows
        if not any(row.get(level) for level in LEVELS) and (position := _position(row))
    ]
    if not nameless:
        return 0
    nearest = NearestPlace.open()
    index, km = nearest.find(*zip(*(position for _, position in nameless), strict=True))
    for (row, _), i, distance in zip(nameless, index, km, strict=True):
        if i >= 0:
            town = nearest.places[i]
            row["country"], row["region"] = town.country, town.admin1
            row["place"] = town.name if distance <= NEAR_KM else ""
    return int((index >= 0).sum())


def _position(row: Row) -> tuple[float, float] | None:
    try:
        lat, lon = float(row["lat"]), float(row["lon"])
    except (KeyError, TypeError, ValueError):
        return None
    return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None
