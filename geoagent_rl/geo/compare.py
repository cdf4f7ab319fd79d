"""Do two names mean one place, two places, or does the gazetteer not know? Encoders are asked about
the last only.
"""

from __future__ import annotations

from geoagent_rl.geo.country_names import TERRITORIES
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.match import Match

# two places nearer than this (the "city" threshold of evaluation) are not called different
APART_KM = 25.0


def compare(
    gazetteer: Gazetteer, level: str, a: str, b: str, country: str = "", region: str = ""
) -> bool | None:
    """Return True: one place, or one of them is rightly named finer or coarser than the other.
    False: both names are known and nothing that one may mean is what the other may. None: open.

    A territory is its state, and a district its region where only one region has a district of that
    name. A continent is no country. Open are unknown names and places less than 25 km apart: there
    a name may be wrong without being a different place. `country` and `region` are the wider levels
    of both."""
    if gazetteer.same_place(level, a, b, country, region):
        return True
    if level == "country" and (gazetteer.is_continent(a) or gazetteer.is_continent(b)):
        return False
    first, second = (gazetteer.candidates(level, name, country, region) for name in (a, b))
    if level == "country" and first and second and _belongs(first[0], second[0]):
        return True
    if level == "region" and (
        _within(gazetteer, a, b, country) or _of_territory(gazetteer, a, b, country)
    ):
        return True
    if first and second and all(_apart(level, x, y) for x in first for y in second):
        return False
    return None


def _belongs(x: Match, y: Match) -> bool:
    codes = x.country_code, y.country_code
    return x.level == y.level == "country" and any(
        inner in TERRITORIES.get(outer, ()) for inner, outer in (codes, codes[::-1])
    )


def _within(gazetteer: Gazetteer, a: str, b: str, country: str) -> bool:
    """Is one of two regions a district of the other? A name that districts of several regions bear
    ("Washington County"), or one of several regions ("New England"), says too little."""
    for inner, outer in ((a, b), (b, a)):
        wide = gazetteer.admin1_of(outer, country, districts=False)
        if len(wide) == 1 and gazetteer.admin1_of(inner, country, districts=True) == wide:
            return True
    return False


def _of_territory(gazetteer: Gazetteer, a: str, b: str, country: str) -> bool:
    """Is one of two regions a territory, as Puerto Rico is, and the other in it?"""
    for outer, inner in ((a, b), (b, a)):
        if gazetteer.is_territory(outer, country):
            found = gazetteer.geocode(outer, inner) or gazetteer.geocode(outer, "", inner)
            if found and found.level != "country":
                return True
    return False


def _apart(level: str, x: Match, y: Match) -> bool:
    if level == "country":
        return x.country_code != y.country_code and not _belongs(x, y)
    if level == "region":
        return (x.country_code, x.admin1) != (y.country_code, y.admin1)
    return bool(haversine_km(x.lat, x.lon, y.lat, y.lon) > APART_KM)
