"""What geocoders answer: where an address was found, and at which of its levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from geoagent_rl.geo.gazetteer_index import Feature

Level = Literal["place", "region", "country"]


@dataclass(frozen=True, slots=True)
class Match:
    """Where an address was found. Degrees (WGS84); a region or country stands at the mean position
    of its people.

    `level` is the finest level of the *address* that was matched, `name` the feature that matched
    it. `runner_up_km` is the distance to the next candidate of that name that fitted as well (None:
    there was none), a measure of ambiguity."""

    lat: float
    lon: float
    level: Level
    name: str
    admin1: str  # "" for a country
    country_code: str
    provider: str = "gazetteer"
    population: int = 0
    runner_up_km: float | None = None
    id: str = ""  # "place:<GeoNames id>", "region:<GeoNames code>" or "country:<ISO 3166-1>"


@dataclass(frozen=True, slots=True)
class Place:
    """A populated place of GeoNames (500 people or more), for drawing worlds and samples."""

    name: str
    admin1: str
    country: str
    country_code: str
    lat: float
    lon: float
    population: int


def match_to_json(match: Match | None) -> dict[str, Any]:
    """Return {lat, lon, level, name, admin1, country_code, provider}; all null but the provider
    where nothing was found."""
    keys = ("lat", "lon", "level", "name", "admin1", "country_code")
    return {key: getattr(match, key, None) for key in keys} | {
        "provider": getattr(match, "provider", "gazetteer")
    }


def match_of(
    feature: Feature,
    level: Literal["place", "region", "country"],
    runner_up_km: float | None = None,
) -> Match:
    """Return the Match of a feature of the gazetteer."""
    return Match(
        lat=feature.lat, lon=feature.lon, level=level, name=feature.name, admin1=feature.admin1,
        country_code=feature.country, population=feature.population, runner_up_km=runner_up_km, id=feature.id,
    )  # fmt: skip
