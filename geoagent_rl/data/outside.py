"""Samples that lie outside the country they name: wrong signs, exchanged axes, wrong labels.

Countries have no polygons here: a position is in a country if one of the nearest towns within
NEAR_KM is one of its towns, of its territories or of an area that it holds; near a border it is in
both. Far from every town it need only be less far from one of the country's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from geoagent_rl.geo.country_names import DISPUTED
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.nearest import NearestPlace

NEAR_KM = 60.0
FAR_KM = 300.0  # no town at all within it: open sea, desert, ice
REMOTE_KM = 800.0  # there a town of the country this near will do
READINGS: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "the sign of its latitude changed": lambda lat, lon: (-lat, lon),
    "the sign of its longitude changed": lambda lat, lon: (lat, -lon),
    "both signs changed": lambda lat, lon: (-lat, -lon),
    "latitude and longitude exchanged": lambda lat, lon: (lon, lat),
}


@dataclass(frozen=True, slots=True)
class Outside:
    """Row `index` names `named` and lies in `found`. `remedy` is what would put it there, or ""."""

    index: int
    named: str
    found: str
    remedy: str

    def __str__(self) -> str:
        would = f" (with {self.remedy} it would lie there)" if self.remedy else ""
        return f"named {self.named}, lies in {self.found}{would}"


def outside(countries: Sequence[str], lat: Sequence[float], lon: Sequence[float]) -> list[Outside]:
    """Find the rows whose position lies in another country than the one named. Those whose name no
    country bears are passed over."""
    gazetteer, nearest = Gazetteer.open(), NearestPlace.open()
    codes = [_codes(gazetteer, name) for name in countries]
    index, km = nearest.find(lat, lon)
    found = []
    for row, allowed in enumerate(codes):
        if not allowed:
            continue
        at = float(lat[row]), float(lon[row])
        empty = index[row] < 0 or km[row] > FAR_KM
        if _holds(nearest, at, allowed, REMOTE_KM if empty else NEAR_KM):
            continue
        town = nearest.places[index[row]]
        if not empty and town.country_code in allowed:
            continue
        where = f"no country (no town within {FAR_KM:.0f} km)" if empty else town.country
        remedy = next(
            (
                what
                for what, read in READINGS.items()
                if _holds(nearest, read(*at), allowed, NEAR_KM)
            ),
            "",
        )
        found.append(Outside(row, countries[row], where, remedy))
    return found


def _codes(gazetteer: Gazetteer, name: str) -> frozenset[str]:
    codes = gazetteer.country_codes(name)
    held = {where for state, where, _ in DISPUTED if state in codes}
    claimed = {state for state, where, _ in DISPUTED if where in codes}
    return codes | held | claimed if codes else codes


def _holds(
    nearest: NearestPlace, at: tuple[float, float], codes: frozenset[str], km: float
) -> bool:
    """Is a town of one of the countries within `km`?"""
    if abs(at[0]) > 90:
        return False
    near = nearest.within(*at, km)
    return bool(np.isin([nearest.places[i].country_code for i in near], sorted(codes)).any())
