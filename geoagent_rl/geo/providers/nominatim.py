"""Nominatim: [..]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopy.geocoders import Nominatim

from geoagent_rl.geo.match import Match
from geoagent_rl.geo.providers.provider import Provider, match_of

MORE_THAN_A_NAME = (
    "ISO3166-2",
    "postcode",
    "country_code",
)  # keys of Nominatim's address that are no place's names


def read(result: Mapping[str, Any]) -> Match | None:
    """Return the Match of a result. `addresstype` came with version 4.2 and `address` with
    addressdetails; the first name in it is the finest.
    """
    parts = result.get("address") or {}
    names = [key for key in parts if not key.startswith(MORE_THAN_A_NAME) and key != "country_code"]
    kind = result.get("addresstype") or (names[0] if names else result.get("type", ""))
    name = result.get("name") or str(result["display_name"]).split(",")[0]
    region = parts.get("state") or parts.get("province") or parts.get("region") or ""
    return match_of(
        "nominatim", result["lat"], result["lon"], kind, name, region, parts.get("country_code", "")
    )


PROVIDER = Provider(Nominatim, lambda document: document, read, {"addressdetails": True})
