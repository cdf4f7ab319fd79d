"""The spatial reward R_spa = exp(-D / tau) (paper Eq. 4-5): D is the great-circle distance in km between the
geocoded answer and the photograph's true coordinates. Pure: the geocoder's match comes in as a value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from geoagent_rl.config import SpatialConfig
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.types import Outcome, Truth

if TYPE_CHECKING:
    from geoagent_rl.geo.gazetteer import Match


def outcome(levels: Sequence[str], match: Match | None, truth: Truth, config: SpatialConfig) -> Outcome:
    """`levels` are the answer's (country, region, place) as asked of the geocoder, hedges already "".

    An answer that names only a country scores at that country's point; the matched level stays visible in the details.
    A data failure (0) when no level is a known place.
    """
    details = {"levels": list(levels), "tau_km": config.tau_km}
    if match is None:
        reason = "no level of the answer is a known place" if any(levels) else "the answer names no place"
        return Outcome("data", 0.0, reason, details)
    distance = float(haversine_km(match.lat, match.lon, truth.lat, truth.lon))
    details |= {
        "distance_km": distance,
        "level": match.level,
        "name": match.name,
        "country_code": match.country_code,
        "lat": match.lat,
        "lon": match.lon,
        "provider": match.provider,
    }
    return Outcome("score", math.exp(-distance / config.tau_km), details=details)
