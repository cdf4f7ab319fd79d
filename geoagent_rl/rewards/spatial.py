"""The spatial reward R_spa = exp(-D / tau) (paper Eq. 4-5), or another curve over D.

D is the great-circle distance in km between the answer (geocoded, or the position it gives) and the
photograph's true coordinates (or, as in the authors' code, the geocoded true names). Pure: the
geocoder's matches come in as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from geoagent_rl.answers.hedge import without_hedges
from geoagent_rl.config.reward import RewardConfig, SpatialConfig
from geoagent_rl.geo.coordinates import Pair
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.rewards.ask import geocode
from geoagent_rl.rewards.distance import earned
from geoagent_rl.rewards.exact_match import contains
from geoagent_rl.rewards.services import Services
from geoagent_rl.types import Outcome, Prompt, Rollout, Truth

if TYPE_CHECKING:
    from geoagent_rl.answers.parse import Parsed
    from geoagent_rl.geo.match import Match


async def score(
    prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Services, config: RewardConfig
) -> Outcome:
    """Ask the geocoder where the answer lies, and perhaps where the truth's names do; see
    `outcome`.
    """
    levels = without_hedges(parsed.levels)
    geocoded = config.spatial.truth == "geocoded"
    true = without_hedges(prompt.truth.levels) if geocoded else ()
    asked = levels if parsed.point is None else ()
    match, true_match = await geocode(services, asked, true)
    return outcome(levels, match, prompt.truth, config.spatial, true_match, parsed.point)


def outcome(
    levels: Sequence[str],
    match: Match | None,
    truth: Truth,
    config: SpatialConfig,
    true_match: Match | None = None,
    point: Pair | None = None,
) -> Outcome:
    """Return what the distance of an answer earns, with all that led to it in the details.

    levels: the answer's (country, region, place) as asked of the geocoder, hedges already "".
    match: where they lie; point: latitude and longitude that the answer itself gives, which count
    before it. true_match: where the truth's names lie, read only where config.truth is "geocoded".
    An answer that names only a country scores at that country's point; the matched level stays
    visible. A data failure (config.unparsed) when there is neither a known place nor a position, or
    no known place in a geocoded truth."""
    details: dict[str, Any] = {"levels": list(levels), "tau_km": config.tau_km}
    if match is None and point is None:
        named = "no level of the answer is a known place" if any(levels) else ""
        reason = named or "the answer names no place"
        return Outcome("data", config.unparsed, reason, details)
    geocoded = config.truth == "geocoded"
    target = true_match if geocoded else truth
    if target is None:
        return Outcome("data", config.unparsed, "no level of the truth is a known place", details)
    details |= found(match, point)
    distance = float(haversine_km(details["lat"], details["lon"], target.lat, target.lon))
    if geocoded and true_match:
        details |= {"true_lat": target.lat, "true_lon": target.lon, "true_level": true_match.level}
    details["distance_km"] = distance
    c = config
    score = earned(distance, c.shape, c.tau_km, c.cut_km, c.points)
    return Outcome("score", gated(score, levels, truth, c.gate), details=details)


def found(match: Match | None, point: Pair | None) -> dict[str, Any]:
    """Return where an answer lies and who says so."""
    if point is not None:
        nameless = {"name": "", "country_code": "", "provider": "answer"}
        return {"level": "position", "lat": point[0], "lon": point[1], **nameless}
    assert match is not None
    names = ("level", "name", "country_code", "lat", "lon", "provider")
    return {name: getattr(match, name) for name in names}


def gated(score: float, levels: Sequence[str], truth: Truth, gate: Sequence[float]) -> float:
    """Return the score behind the right names (Geo-ADAPT); without a gate it is unchanged."""
    if not gate:
        return score
    if not contains(levels[0], truth.country):
        return 0.0
    if not contains(levels[2], truth.place):
        return gate[0] * score
    return gate[0] + gate[1] * score
