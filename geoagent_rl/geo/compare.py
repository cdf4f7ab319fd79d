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
    """True: one place. False: both names are known and nothing that one may mean is what the other
    may. None: open.

    Open are unknown names, a territory and its state, a district and its region, and places less
    than 25 km apart: there a name may be wrong without being a different place. `country` and
    `region` are the wider levels of both."""
    if gazetteer.same_place(level, a, b, country, region):
        return True
    first, second = (gazetteer.candidates(level, name, country, region) for name in (a, b))
    if first and second and all(_apart(level, x, y) for x in first for y in second):
        return False
    return None


def _apart(level: str, x: Match, y: Match) -> bool:
    codes = x.country_code, y.country_code
    if level == "country":
        belongs = any(inner in TERRITORIES.get(outer, ()) for inner, outer in (codes, codes[::-1]))
        return codes[0] != codes[1] and not belongs
    if level == "region":
        return (codes[0], x.admin1) != (codes[1], y.admin1)
    return bool(haversine_km(x.lat, x.lon, y.lat, y.lon) > APART_KM)
