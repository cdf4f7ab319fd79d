"""Names for photographs that have coordinates but lack some names: those of the nearest town.

A level is filled only where the levels that are given agree with the town: a row that names another
country or region keeps its blanks. Knows no files."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.nearest import NearestPlace

LEVELS = ("country", "region", "place")
NEAR_KM = 25.0  # a town farther off is not called the place; its country and region are
Row = MutableMapping[str, Any]


def fill_names(rows: Sequence[Row]) -> int:
    """Fill blank names of rows with "lat" and "lon" in place; returns how many rows gained one."""
    lacking = [row for row in rows if _lacks(row) and _position(row)]
    if not lacking:
        return 0
    nearest, gazetteer = NearestPlace.open(), Gazetteer.open()
    positions = [_position(row) or (0.0, 0.0) for row in lacking]
    index, km = nearest.find(*zip(*positions, strict=True))
    gained = 0
    for row, i, distance in zip(lacking, index, km, strict=True):
        if i >= 0:
            town = nearest.places[i]
            names = (town.country, town.admin1, town.name if distance <= NEAR_KM else "")
            gained += _fill(row, names, gazetteer)
    return gained


def nameless(rows: Sequence[Any]) -> int:
    """How many samples name no level at all: their semantic reward is left out."""
    return sum(not (row.country or row.region or row.place) for row in rows)


def _lacks(row: Row) -> bool:
    return not all(row.get(level) for level in LEVELS)


def _fill(row: Row, names: tuple[str, str, str], gazetteer: Gazetteer) -> bool:
    """The blanks after the last level that agrees with `names`; nothing where one disagrees."""
    wider: tuple[str, ...] = ()
    for level, name in zip(LEVELS, names, strict=True):
        told = row.get(level) or ""
        if (
            told
            and name
            and level != "place"
            and not gazetteer.same_place(level, told, name, *wider)
        ):
            return False
        wider = (*wider, name)
    gained = False
    for level, name in zip(LEVELS, names, strict=True):
        if name and not row.get(level):
            row[level], gained = name, True
    return gained


def _position(row: Row) -> tuple[float, float] | None:
    try:
        lat, lon = float(row["lat"]), float(row["lon"])
    except (KeyError, TypeError, ValueError):
        return None
    return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None
