"""What OpenCage, Nominatim and Photon answer: the documented shape of their JSON, and the Match in
a result.

Levels come from the services' own type fields, never from a confidence. Pure; may know nothing of
HTTP."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from geoagent_rl.geo.match import Match

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
MORE_THAN_A_NAME = (
    "ISO3166-2",
    "postcode",
    "country_code",
)  # keys of Nominatim's address that are no place's names


class Undocumented(ValueError):
    """The service's JSON is not of its documented shape, so nobody can tell what it says."""


def checked(provider: str, document: Any) -> Any:
    """`document`, if each of its results can be read. Raises Undocumented.

    OpenCage: {"status": {"code", "message"}, "results": [..]}; an error code in the body passes,
    geopy raises it.
    Nominatim: [..]. Photon: {"type": "FeatureCollection", "features": [..]}."""
    try:
        if provider == "opencage":
            if not isinstance(document["status"]["code"], int) or not isinstance(
                document["status"]["message"], str
            ):
                raise TypeError("status")
            results = document["results"]
        else:
            results = document if provider == "nominatim" else document["features"]
        if not isinstance(results, list):
            raise TypeError("results")
        for result in results:
            READERS[provider](result)
    except Undocumented:
        raise
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise Undocumented(f"the answer is not {provider}'s documented JSON ({said})") from None
    return document


def opencage(result: Mapping[str, Any]) -> Match | None:
    parts = result["components"]
    kind = parts.get("_type", "unknown")
    geometry = result["geometry"]
    name = parts.get(kind) or str(result.get("formatted", "")).split(",")[0]
    region = parts.get("state") or parts.get("province") or parts.get("region") or ""
    return _match(
        "opencage",
        geometry["lat"],
        geometry["lng"],
        kind,
        name,
        region,
        parts.get("country_code", ""),
    )


def nominatim(result: Mapping[str, Any]) -> Match | None:
    """`addresstype` came with version 4.2 and `address` with addressdetails; the first name in it
    is the finest.
    """
    parts = result.get("address") or {}
    names = [key for key in parts if not key.startswith(MORE_THAN_A_NAME) and key != "country_code"]
    kind = result.get("addresstype") or (names[0] if names else result.get("type", ""))
    name = result.get("name") or str(result["display_name"]).split(",")[0]
    region = parts.get("state") or parts.get("province") or parts.get("region") or ""
    return _match(
        "nominatim", result["lat"], result["lon"], kind, name, region, parts.get("country_code", "")
    )


def photon(result: Mapping[str, Any]) -> Match | None:
    """`type` has few values: a "district" is part of a town here."""
    parts = result["properties"]
    lon, lat = result["geometry"]["coordinates"][:2]
    kind = "suburb" if parts.get("type") == "district" else parts.get("type", "")
    name = parts.get("name") or parts.get("street") or ""
    region = parts.get("state") or (name if kind in REGION else "")
    return _match("photon", lat, lon, kind, name, region, parts.get("countrycode", ""))


READERS: dict[str, Callable[[Mapping[str, Any]], Match | None]] = {
    "opencage": opencage,
    "nominatim": nominatim,
    "photon": photon,
}


def level_of(kind: str) -> str:
    """The level of a service's type: whatever is neither a country nor a region is a place or lies
    in one.
    """
    return "country" if kind in COUNTRY else "region" if kind in REGION else "place"


def _match(
    provider: str, lat: Any, lon: Any, kind: str, name: str, region: str, country: str
) -> Match | None:
    """None for what is wider than a country. Raises ValueError or TypeError for coordinates that
    are none.
    """
    lat, lon = float(lat), float(lon)  # Nominatim's are strings
    if not (math.isfinite(lat) and math.isfinite(lon) and abs(lat) <= 90 and abs(lon) <= 180):
        raise ValueError(f"coordinates {lat}, {lon}")
    if kind in WIDER:
        return None
    level = level_of(kind)
    admin1 = "" if level == "country" else region
    return Match(lat, lon, level, str(name), str(admin1), str(country).upper(), provider)
