"""OpenCage: {"status": {"code", "message"}, "results": [..]}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopy.geocoders import OpenCage

from geoagent_rl.geo.match import Match
from geoagent_rl.geo.providers.provider import Provider, match_of


def results(document: Any) -> Any:
    """Return the results. An error code in the body passes: geopy raises it."""
    status = document["status"]
    if not isinstance(status["code"], int) or not isinstance(status["message"], str):
        raise TypeError("status")
    return document["results"]


def read(result: Mapping[str, Any]) -> Match | None:
    """Return the Match of a result."""
    parts = result["components"]
    kind = parts.get("_type", "unknown")
    geometry = result["geometry"]
    name = parts.get(kind) or str(result.get("formatted", "")).split(",")[0]
    region = parts.get("state") or parts.get("province") or parts.get("region") or ""
    return match_of(
        "opencage",
        geometry["lat"],
        geometry["lng"],
        kind,
        name,
        region,
        parts.get("country_code", ""),
    )


PROVIDER = Provider(OpenCage, results, read, {"annotations": False}, needs_key=True)
