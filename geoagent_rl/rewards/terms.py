"""Reward terms of other published recipes, each a part of the form that reward.custom takes; the
configurations in configs/recipes/ name them. Own code after what their papers and codes pay.

Names and texts are compared without case. Columns of the manifest that a term needs beyond the
truth (entities, aliases) come with the prompt."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

from geoagent_rl.answers.forms import json_object
from geoagent_rl.geo.folding import normalise
from geoagent_rl.types import Outcome, Prompt, Rollout

if TYPE_CHECKING:
    from geoagent_rl.answers.parse import Parsed

GEOHASH = "0123456789bcdefghjkmnpqrstuvwxyz"
GEOHASH_LENGTH = 5  # characters, cells of about 5 km (geospot)
LENGTH_UNIT = 0.001  # a character of reasoning (SeekWorld)
MOST_EDITS = 2  # between two words that count as the same (SeekWorld: distance below 3)
_REGION_WORDS = re.compile(
    r"\b(?:province|oblast|governorate|city|state|territory|region|district)\b"
)
_UNKNOWN = re.compile(
    r"\b(?:unknown|n/a|unspecified|undetermined|unidentified|uncertain|unclear|placeholder|generic"
    r"|not enough|cannot be determined|(?:hard|difficult) to determine)\b"
)
_DECLINES = re.compile(
    r"\b(?:can ?not|can't|unable to|impossible to|hard to|difficult to)\s+"
    r"(?:be\s+)?(?:determined?|identif(?:y|ied)|infer(?:red)?|locate[d]?|pinpoint(?:ed)?)\b"
    r"|\binsufficient information\b|\bnothing identifiable\b|\bno identifiable\b"
)


async def geohash(prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Any) -> Outcome:
    """Pay the share of five geohash characters that answer and truth begin with (geospot)."""
    if parsed.point is None:
        return Outcome("data", 0.0, "no coordinates in the answer")
    own, true = (cell(*at) for at in (parsed.point, (prompt.truth.lat, prompt.truth.lon)))
    alike = next((i for i, (a, b) in enumerate(zip(own, true, strict=True)) if a != b), len(own))
    return Outcome("score", alike / GEOHASH_LENGTH, details={"answer": own, "truth": true})


async def length(prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Any) -> Outcome:
    """Pay 0.001 for each letter or digit of the reasoning, at most 1 (SeekWorld, whose authors
    report longer texts and no better answers)."""
    thought = rollout.text.partition("<think>")[2].partition("</think>")[0]
    letters = sum(unicodedata.category(char)[0] not in "ZPC" for char in thought)
    return Outcome("score", min(1.0, LENGTH_UNIT * letters), details={"letters": letters})


async def no_unknown(prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Any) -> Outcome:
    """Pay 1 for an answer that names no unknown in a text that declines nowhere (Geobench)."""
    text = rollout.text.casefold().replace("’", "'")
    final = json_object(text) if "<answer>" not in text else None  # the bare form
    answer = str(final.get("finalanswer")) if final else text.rpartition("<answer>")[2]
    for found in (_UNKNOWN.search(answer.partition("</answer>")[0]), _DECLINES.search(text)):
        if found:
            return Outcome("data", 0.0, f"it says {found[0]!r}")
    return Outcome("score", 1.0)


async def country_region(
    prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Any
) -> Outcome:
    """Pay 1 when country and region are both right, else 0 (SeekWorld); no partial credit.

    The region may be any of the names "A/B/C" in the truth or in the manifest's column `aliases`;
    words pair one to one with at most two edits each, words such as "province" aside.
    """
    country, region, _ = parsed.levels
    right = normalise(country) == normalise(prompt.truth.country) and bool(country)
    names = f"{prompt.truth.region}/{prompt.columns.get('aliases', '')}".split("/")
    same = right and any(words_pair(region, name) for name in names)
    return Outcome("score", float(same), details={"country": right, "region": same})


async def visual_match(prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Any) -> Outcome:
    """Pay the share of the photograph's distinct entities that the reasoning names (GLOBE).

    The manifest's column `entities` holds them, separated by ";". Without entities it pays 0.
    """
    entities = {e.strip().casefold() for e in prompt.columns.get("entities", "").split(";")} - {""}
    thought = rollout.text.partition("</think>")[0].casefold()
    named = sorted(entity for entity in entities if entity in thought)
    return Outcome("score", len(named) / max(1, len(entities)), details={"named": named})


def cell(lat: float, lon: float, length: int = GEOHASH_LENGTH) -> str:
    """Return the geohash of a position in degrees.

    >>> cell(57.64911, 10.40744, 11)
    'u4pruydqqvj'
    """
    bounds, values = [[-180.0, 180.0], [-90.0, 90.0]], (lon, lat)
    code, bits = "", 0
    for i in range(5 * length):
        low, high = bounds[i % 2]
        middle = (low + high) / 2
        upper = values[i % 2] >= middle
        bounds[i % 2] = [middle, high] if upper else [low, middle]
        bits = 2 * bits + upper
        if i % 5 == 4:
            code, bits = code + GEOHASH[bits], 0
    return code


def words_pair(a: str, b: str) -> bool:
    """Return whether the words of two region names pair one to one, all of them used."""
    left, right = (_REGION_WORDS.sub(" ", normalise(name)).split() for name in (a, b))
    if not left or len(left) != len(right):
        return False
    for word in left:
        match = next((other for other in right if edits(word, other) <= MOST_EDITS), None)
        if match is None:
            return False
        right.remove(match)
    return True


def edits(a: str, b: str) -> int:
    """Return the Levenshtein distance of two words."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]
