"""Rewards in the style of other projects, as baselines for ablations. Own code, after what their
code does.

- globe (GLOBE): 1 for the right country and city, 0.2 for the country alone, else 0. A name is
  right when one of the two contains the other and is at least 0.7 of its length.
- geovista (GeoVista): 4, 2 or 1 quarters for the finest true level (city, state, country) whose
  name occurs in the answer as whole ASCII words; coarser levels need not.
- gre (GRE Suite): 2 / (1 + exp(d / scale)) of the distance d in km: 1 at 0 km.

All lie in [0, 1]. The first two know no aliases: "Bayern" for "Bavaria" is wrong, and names in
other scripts never match in geovista, which is the point of the comparison. Names are compared
without case and accents. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from geoagent_rl.answers.hedge import without_hedges
from geoagent_rl.config.reward import ExactMatchConfig, RewardConfig
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.folding import normalise
from geoagent_rl.rewards.ask import geocode
from geoagent_rl.rewards.distance import earned
from geoagent_rl.rewards.services import Services
from geoagent_rl.types import Outcome, Prompt, Rollout, Truth

if TYPE_CHECKING:
    from geoagent_rl.answers.parse import Parsed
    from geoagent_rl.geo.match import Match

LENGTH_RATIO = 0.7
COUNTRY_ALONE = 0.2
QUARTERS = {"place": 4, "region": 2, "country": 1}


async def score(
    prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Services, config: RewardConfig
) -> Outcome:
    """Ask the geocoder where the answer lies, for the GRE style alone; see `outcome`."""
    levels, c = without_hedges(parsed.levels), config.exact_match
    (match,) = await geocode(services, levels) if c.style == "gre" else (None,)
    return outcome(levels, match, prompt.truth, c)


def outcome(
    levels: Sequence[str], match: Match | None, truth: Truth, config: ExactMatchConfig
) -> Outcome:
    """Pay for matching names: `levels` are the answer's with hedges as ""; `match` is where they
    lie, read by the GRE style alone.

    A data failure (0) when the answer names no place, or for GRE no known one.
    """
    if not any(levels):
        return Outcome("data", 0.0, "the answer names no place", {"style": config.style})
    true = without_hedges(truth.levels)
    if config.style == "globe":
        score, details = _globe(levels, true)
    elif config.style == "geovista":
        score, details = _geovista(levels, true)
    elif match is None:
        return Outcome(
            "data", 0.0, "no level of the answer is a known place", {"style": config.style}
        )
    else:
        distance = float(haversine_km(match.lat, match.lon, truth.lat, truth.lon))
        score = earned(distance, "logistic", config.scale_km)
        details = {"distance_km": distance}
    return Outcome("score", score, details={"style": config.style, **details})


def contains(a: str, b: str) -> bool:
    """Say whether one name contains the other and is at least 0.7 of its length."""
    short, long = sorted((normalise(a), normalise(b)), key=len)
    return bool(short) and short in long and len(short) >= LENGTH_RATIO * len(long)


def _globe(levels: Sequence[str], true: Sequence[str]) -> tuple[float, dict[str, Any]]:
    country, city = contains(levels[0], true[0]), contains(levels[2], true[2])
    return (1.0 if city else COUNTRY_ALONE) if country else 0.0, {"country": country, "city": city}


def _geovista(levels: Sequence[str], true: Sequence[str]) -> tuple[float, dict[str, Any]]:
    answer = normalise(" ; ".join(levels))
    for (level, quarters), name in zip(QUARTERS.items(), reversed(true), strict=True):
        words = normalise(name)
        if words and words.isascii() and re.search(rf"\b{re.escape(words)}\b", answer, re.ASCII):
            return quarters / 4, {"level": level}
    return 0.0, {"level": ""}
