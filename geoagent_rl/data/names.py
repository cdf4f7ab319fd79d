"""Names for photographs that have coordinates and lack some: those of the nearest town.

A name that is there stays. The others are filled where the nearest town is in the country and
region named; a row that contradicts its position, or names no country but something finer, is left
as it is. Knows no files."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from geoagent_rl.geo.countries import CountryCodes
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.match import Place
from geoagent_rl.geo.nearest import NearestPlace
from geoagent_rl.rewards.services import LEVELS

NEAR_KM = 25.0  # a town farther off is not called the place; its country and region are
Row = MutableMapping[str, Any]


def fill_names(rows: Sequence[Row]) -> int:
    """Fill the names that rows lack in place, from "lat" and "lon"; return in how many."""
    lacking = [
        (row, position)
        for row in rows
        if not all(row.get(level) for level in LEVELS) and (position := _position(row))
    ]
    if not lacking:
        return 0
    nearest, codes, gazetteer = NearestPlace.open(), CountryCodes(), Gazetteer.open()
    index, km = nearest.find(*zip(*(position for _, position in lacking), strict=True))
    filled = 0
    for (row, _), i, distance in zip(lacking, index, km, strict=True):
        if i >= 0 and _agrees(row, nearest.places[i], codes, gazetteer):
            town = nearest.places[i]
            names = (town.country, town.admin1, town.name if distance <= NEAR_KM else "")
            found = zip(LEVELS, names, strict=True)
            gained: Row = {level: name for level, name in found if name and not row.get(level)}
            row.update(gained)
            filled += bool(gained)
    return filled


def _agrees(row: Row, town: Place, codes: CountryCodes, gazetteer: Gazetteer) -> bool:
    """Say whether a town lies in the country and region that a row names, as far as it does."""
    country, region, place = (str(row.get(level) or "") for level in LEVELS)
    if not country:
        return not region and not place
    if codes(country) != town.country_code:
        return False
    return not region or gazetteer.same_place("region", region, town.admin1, country)


def _position(row: Row) -> tuple[float, float] | None:
    try:
        lat, lon = float(row["lat"]), float(row["lon"])
    except (KeyError, TypeError, ValueError):
        return None
    return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None
