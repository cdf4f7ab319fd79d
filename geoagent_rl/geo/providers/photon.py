"""Photon: {"type": "FeatureCollection", "features": [..]}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopy.geocoders import Photon

from geoagent_rl.geo.match import Match
from geoagent_rl.geo.providers.provider import REGION, Provider, match_of


def read(result: Mapping[str, Any]) -> Match | None:
    """Return the Match of a result. `type` has few values: a "district" is part of a town here."""
    parts = result["properties"]
    lon, lat = result["geometry"]["coordinates"][:2]
    kind = "suburb" if parts.get("type") == "district" else parts.get("type", "")
    name = parts.get("name") or parts.get("street") or ""
    region = parts.get("state") or (name if kind in REGION else "")
    return match_of("photon", lat, lon, kind, name, region, parts.get("countrycode", ""))


PROVIDER = Provider(Photon, lambda document: document["features"], read)
