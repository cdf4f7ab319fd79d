"""Chains of thought of the paper's form written in the other forms of an answer (forms.py), for the
cold start of a policy that answers in one of them."""

from __future__ import annotations

import json

from geoagent_rl.answers.forms import read
from geoagent_rl.answers.parse import parse
from geoagent_rl.geo.coordinates import Pair
from geoagent_rl.types import AnswerForm

DECIMALS = 3  # of a degree: 60 m at most


def rewritten(chain: str, form: AnswerForm, point: Pair) -> str:
    """Return a chain of thought as an answer of `form`, its stages' reasoning in one paragraph.

    point: latitude and longitude of the chain's answer, in degrees. Returns "" for a text that is
    no chain, and where the chain leaves open what the form asks for."""
    parsed = parse(chain)
    told = " ".join(stage.reasoning for stage in parsed.stages if stage.reasoning)
    if form == "json_levels":
        clues = [clue for stage in parsed.stages for clue in stage.clues]
        final = "; ".join(parsed.levels)
        text = _json({"Clues": clues, "Reasoning": told, "FinalAnswer": final})
    else:
        text = f"<think>{told}</think><answer>{_answer(parsed.levels, form, point)}</answer>"
    return text if told and read(text, form).format_ok else ""


def _answer(levels: tuple[str, str, str], form: AnswerForm, point: Pair) -> str:
    country, region, place = levels
    lat, lon = (round(degrees, DECIMALS) for degrees in point)
    if form == "json_lat_lon":
        return _json({"lat": lat, "lon": lon, "city": place, "country": country})
    return {
        "levels": "; ".join(levels),
        "country_city": f"country: {country}\ncity: {place}",
        "country_region": f"${country}, {region}$",
        "lat_lon": f"{lat}, {lon}",
        "country_city_lat_lon": f"{country}, {place}, {lat}, {lon}",
    }[form]


def _json(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False)
