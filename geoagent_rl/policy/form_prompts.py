"""A system prompt for each answer form besides `levels`, which has the paper's stages (prompt.py).

`policy.system_prompt=form` takes the one of policy.answer; a recipe with a prompt of its own names
a file instead."""

from __future__ import annotations

from geoagent_rl.types import AnswerForm

_TASK = """\
You work out where photographs were taken. Study everything that can betray a place: script and \
language on signs, road markings, number plates, driving side, poles, architecture, vegetation, \
soil, terrain, light, clothing, brands. Always commit to your best guess.
"""
_THINK = "First think, inside <think></think>, from what you see to what it means. Then answer:\n"
_ANSWERS: dict[AnswerForm, str] = {
    "country_city": "<answer>country: NAME\ncity: NAME</answer>",
    "country_region": "<answer>$Country, Region$</answer>, the region being the state or province",
    "lat_lon": "<answer>latitude, longitude</answer> in decimal degrees, such as 12.3456, -65.4321",
    "country_city_lat_lon": "<answer>Country, City, latitude, longitude</answer>, "
    "the last two in decimal degrees",
    "json_lat_lon": '<answer>{"lat": 12.3456, "lon": -65.4321, "city": "NAME", "country": "NAME"}'
    "</answer>, in decimal degrees",
}
_JSON_LEVELS = """\
Reply with one JSON object and nothing else:
{"Clues": [what you see, each a short text], "Reasoning": "how these clues lead to the place", \
"FinalAnswer": "Country; Region; Place"}"""


def form_prompt(form: AnswerForm) -> str:
    """Return the system prompt that asks for an answer of `form`."""
    if form == "json_levels":
        return _TASK + _JSON_LEVELS
    return _TASK + _THINK + _ANSWERS[form]
