"""The forms an answer can have (policy.answer), each with its own reader: one table, FORMS.

| form                 | inside the answer tags                                     | gives    |
|----------------------|------------------------------------------------------------|----------|
| levels               | Country; Region; Place, after three reasoned stages        | C, R, P  |
| json_levels          | {"Clues": [..], "Reasoning": .., "FinalAnswer": "C; R; P"} | C, R, P  |
| country_city         | a line `country: X` and a line `city: Y`                   | C, P     |
| country_region       | $Country, Region$                                          | C, R     |
| lat_lon              | 48.1374, 11.5755 or Latitude: .. / Longitude: ..           | a point  |
| country_city_lat_lon | Country, City, 48.1374, 11.5755                            | C, P, pt |
| json_lat_lon         | {"lat": .., "lon": .., "city": .., "country": ..}          | C, P, pt |

What holds for every form: the last complete `<answer>` counts; without tags all of it is read;
what cannot be read gives ("", "", "") and no point, and `format_ok` is true exactly for one think
block, one answer block, nothing round them and a full answer of the form in it (for json_levels
also for the bare JSON object). A reader never raises. docs/recipes.md says which recipe uses which.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from geoagent_rl.answers.hedge import is_hedge
from geoagent_rl.answers.parse import NO_LEVELS, Levels, Parsed, parse, read_levels, split_tags
from geoagent_rl.files import parse_json
from geoagent_rl.geo.coordinates import Pair, read_pair
from geoagent_rl.types import AnswerForm

Body = tuple[Levels, Pair | None, str]  # what one answer says, and what is wrong with it

# Of one line, and linear in its length: a policy that goes astray writes nothing but line breaks.
_LINE = r"^[^\S\n]*{}[^\S\n]*:[^\S\n]*(\S.*)"
_COUNTRY = re.compile(_LINE.format("country"), re.MULTILINE | re.IGNORECASE)
_CITY = re.compile(_LINE.format("city"), re.MULTILINE | re.IGNORECASE)
_TAIL = re.compile(r"^\s*([^,;\n]+?)\s*[,;]\s*(.*?)\s*[,;]\s*$", re.DOTALL)
_DEGREES = r"[-+−]?\d{1,3}(?:\.\d+)?\s*°?\s*[NSEWnsew]?"
_PAIR = re.compile(rf"(?<![\w.]){_DEGREES}\s*[,;/]\s*{_DEGREES}(?![\w.])")


def read(text: str, form: AnswerForm = "levels") -> Parsed:
    """Return what a completion says, read as an answer of `form` (see the table above)."""
    if form == "levels":
        return parse(text)
    thought, answer, fault = split_tags(text)
    if form == "json_levels" and answer is None and not fault_of_bare_json(text):
        answer, fault = text, ""
    levels, point, wrong = FORMS[form](text if answer is None else answer)
    problem = fault or wrong
    return Parsed(levels, (), not problem, problem, point)


def said(parsed: Parsed) -> str:
    """Return what an answer says, for people: its three levels, else its position, else ""."""
    if any(parsed.levels):
        return "; ".join(parsed.levels)
    return position(*parsed.point) if parsed.point else ""


def position(lat: float, lon: float) -> str:
    """Return a position for people, in degrees."""
    return f"{lat:.4f}, {lon:.4f}"


def country_city(answer: str) -> Body:
    """Read the two named lines."""
    country, city = (first(pattern, answer) for pattern in (_COUNTRY, _CITY))
    lacking = [name for name, value in (("country", country), ("city", city)) if not value]
    fault = f"no line `{lacking[0]}: ...`" if lacking else ""
    return (country, "", city), None, fault


def country_region(answer: str) -> Body:
    """Read `$Country, Region$`; exactly one comma separates the two."""
    body = answer.strip()
    fault = "" if len(body) > 1 and body[0] == body[-1] == "$" else "no dollar signs round it"
    parts = [named(part) for part in body.strip("$ \n").split(",")]
    if len(parts) != 2:
        return NO_LEVELS, None, f"{len(parts) - 1} commas, not 1"
    return (parts[0], parts[1], ""), None, fault or ("" if all(parts) else "a level is missing")


def lat_lon(answer: str) -> Body:
    """Read exactly one pair of coordinates; of several the last counts and the format is broken."""
    points = points_in(answer)
    if not points:
        return NO_LEVELS, None, "no coordinates"
    return NO_LEVELS, points[-1], "" if len(points) == 1 else f"{len(points)} pairs of coordinates"


def country_city_lat_lon(answer: str) -> Body:
    """Read names first and the last pair of coordinates after them."""
    pairs = list(_PAIR.finditer(answer))
    points = points_in(pairs[-1][0]) if pairs else []
    if not points:
        return NO_LEVELS, None, "no coordinates"
    names = _TAIL.match(answer[: pairs[-1].start()])
    if names is None:
        return NO_LEVELS, points[-1], "no Country, City before the coordinates"
    fault = "" if len(pairs) == 1 else f"{len(pairs)} pairs of coordinates"
    return (named(names[1]), "", named(names[2])), points[-1], fault


def json_levels(answer: str) -> Body:
    """Read FinalAnswer of a JSON object with exactly the three keys; plain levels are read too."""
    found = json_object(answer)
    if found is None:
        levels, _ = read_levels(answer)
        return levels, None, "no JSON object"
    final = found.get("FinalAnswer")
    levels, fault = read_levels(final) if isinstance(final, str) else (NO_LEVELS, "no FinalAnswer")
    exact = set(found) == {"Clues", "Reasoning", "FinalAnswer"}
    clues = found.get("Clues")
    if exact and not (isinstance(clues, list) and clues and all(isinstance(c, str) for c in clues)):
        fault = fault or "Clues is no list of texts"
    return levels, None, fault or ("" if exact else f"keys {', '.join(sorted(found))}")


def json_lat_lon(answer: str) -> Body:
    """Read the keys lat, lon, city and country of a JSON object."""
    found = json_object(answer)
    if found is None:
        return NO_LEVELS, None, "no JSON object"
    country, city = (named(found.get(name)) for name in ("country", "city"))
    point = read_pair(found)
    return (country, "", city), point, "" if point else "no lat and lon in range"


FORMS: dict[AnswerForm, Callable[[str], Body]] = {
    "json_levels": json_levels,
    "country_city": country_city,
    "country_region": country_region,
    "lat_lon": lat_lon,
    "country_city_lat_lon": country_city_lat_lon,
    "json_lat_lon": json_lat_lon,
}


def first(pattern: re.Pattern[str], text: str) -> str:
    """Return the name in the last match; "" without one."""
    found = pattern.findall(text)
    return named(found[-1]) if found else ""


def named(value: Any) -> str:
    """Return a name tidied; "" for what is no text and for a hedge ("unknown")."""
    text = " ".join(value.split()).strip("`*\"' ") if isinstance(value, str) else ""
    return "" if is_hedge(text) else text


def json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in `text`, code fences and words round it aside; None without one."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        found = parse_json(text[start : end + 1], strict=False)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def fault_of_bare_json(text: str) -> bool:
    """Return whether `text` is anything but one JSON object (an empty think block aside)."""
    body = re.sub(r"^\s*<think>\s*</think>", "", text).strip()
    return not (body.startswith("{") and body.endswith("}") and json_object(body) is not None)


def points_in(text: str) -> list[Pair]:
    """Return every position in `text`: the whole of it, or each pair of numbers."""
    whole = read_pair(text)
    found = [whole] if whole else [read_pair(match[0]) for match in _PAIR.finditer(text)]
    return [pair for pair in found if pair is not None]
