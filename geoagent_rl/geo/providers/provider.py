"""A remote geocoder as one entry of the table in __init__.py, and what readers of answers share.

Levels come from the services' own type fields, never from a confidence. Reading is pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from geopy.geocoders.base import Geocoder

from geoagent_rl.geo.match import Level, Match

COUNTRY = {"country"}
REGION = {
    *(
        "state",
        "province",
        "region",
        "state_district",
        "county",
        "district",
        "territory",
        "prefecture",
        "department",
    ),
    *("governorate", "canton", "autonomous_community", "political"),
}
WIDER = {"continent", "ocean", "sea", "body_of_water"}  # these say less than a country does


class Undocumented(ValueError):
    """The service's JSON is not of its documented shape, so nobody can tell what it says."""


@dataclass(frozen=True)
class Provider:
    """One service. Its settings are a section of reward.geocoder of the same name."""

    client: Callable[..., Geocoder]  # geopy's class; takes the key first where one is needed
    results: Callable[[Any], Any]  # an answer's document -> its list of results
    read: Callable[[Mapping[str, Any]], Match | None]  # None: the result says less than a country
    options: Mapping[str, Any] = field(default_factory=dict)  # of each request, besides language
    needs_key: bool = False

    def checked(self, document: Any) -> Any:
        """Return `document` if each of its results can be read. Raises Undocumented."""
        try:
            results = self.results(document)
            if not isinstance(results, list):
                raise TypeError("results")
            for result in results:
                self.read(result)
        except Undocumented:
            raise
        except (TypeError, LookupError, ValueError, AttributeError) as error:
            said = f"{type(error).__name__}: {error}"
            raise Undocumented(f"the answer is not the documented JSON ({said})") from None
        return document


def level_of(kind: str) -> Level:
    """Return the level of a service's type: whatever is neither a country nor a region is a place
    or lies in one.
    """
    return "country" if kind in COUNTRY else "region" if kind in REGION else "place"


def match_of(
    provider: str, lat: Any, lon: Any, kind: str, name: str, region: str, country: str
) -> Match | None:
    """Return the Match of a result; None for what is wider than a country. Raises ValueError or
    TypeError for coordinates that are none.
    """
    lat, lon = float(lat), float(lon)  # Nominatim's are strings
    if not (math.isfinite(lat) and math.isfinite(lon) and abs(lat) <= 90 and abs(lon) <= 180):
        raise ValueError(f"coordinates {lat}, {lon}")
    if kind in WIDER:
        return None
    level = level_of(kind)
    admin1 = "" if level == "country" else region
    return Match(lat, lon, level, str(name), str(admin1), str(country).upper(), provider)
