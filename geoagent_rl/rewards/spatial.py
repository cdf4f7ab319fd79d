"""The spatial reward R_spa = exp(-D / tau) (paper Eq. 4-5): D is the great-circle distance in km
between the geocoded answer and the photograph's true coordinates (or, as in the authors' code, the
geocoded true names).
Pure: the geocoder's matches come in as values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from geoagent_rl.config.reward import SpatialConfig
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.types import Outcome, Truth

if TYPE_CHECKING:
    from geoagent_rl.geo.gazetteer import Match


def outcome(
    levels: Sequence[str],
    match: Match | None,
    truth: Truth,
    config: SpatialConfig,
    true_match: Match | None = None,
) -> Outcome:
    """`levels` are the answer's (country, region, place) as asked of the geocoder, hedges already
    "".

    `true_match` is where the truth's names lie; it is read only where config.truth is "geocoded".
    An answer that names only a country scores at that country's point; the matched level stays
    visible in the details. A data failure (0) when no level of the answer is a known place, or none
    of a geocoded truth."""
    details = {"levels": list(levels), "tau_km": config.tau_km}
    if match is None:
        reason = (
            "no level of the answer is a known place"
            if any(levels)
            else "the answer names no place"
        )
        return Outcome("data", 0.0, reason, details)
    target = true_match if config.truth == "geocoded" else truth
    if target is None:
        return Outcome("data", 0.0, "no level of the truth is a known place", details)
    distance = float(haversine_km(match.lat, match.lon, target.lat, target.lon))
    if config.truth == "geocoded":
        details |= {"true_lat": target.lat, "true_lon": target.lon, "true_level": target.level}
    details |= {
        "distance_km": distance,
        "level": match.level,
        "name": match.name,
        "country_code": match.country_code,
        "lat": match.lat,
        "lon": match.lon,
        "provider": match.provider,
    }
    beyond = 0 < config.cut_km <= distance
    return Outcome("score", 0.0 if beyond else math.exp(-distance / config.tau_km), details=details)
