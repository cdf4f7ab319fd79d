"""Answers that name no place: blanks, refusals, missing-value words, words of a template, numbers
and coordinates. Knows no gazetteer.
"""

from __future__ import annotations

import re
from functools import lru_cache

from geoagent_rl.geo.coordinates import looks_like_position
from geoagent_rl.geo.folding import normalise

# Whole levels, in normal form. "Bar", "Other" or "Test" could be villages, but nobody's answer.
_WORDS = """none null nil undefined tbd tba tbc todo xxx xxxx placeholder missing blank empty default test
    example foo foobar lorem other others various multiple several misc error answer
    未知 不明 不详 无 なし 없음 모름 不适用 desconocido desconocida desconhecido desconhecida inconnu inconnue
    unbekannt sconosciuto onbekend okänd ukjent nieznany bilinmiyor neznámý неизвестно неизвестный невідомо
    ninguno ninguna nenhum aucun aucune keine nessuno مجهول अज्ञात""".split()
_PHRASES = (
    "n/a", "not found", "no match", "no place", "lorem ipsum", "to be determined", "غير معروف", "لا يوجد", "לא ידוע",
    "no data", "not a place", "your answer", "your answer here", "answer here", "final answer",
)  # fmt: skip
_SAYINGS = frozenset(map(normalise, (*_WORDS, *_PHRASES)))
# A level that consists of such words alone is the template, not an answer to it.
_KIND = (
    r"(?:countr(?:y|ies)|nations?|states?|regions?|provinces?|count(?:y|ies)|admin[12]?|districts?|cit(?:y|ies)|towns?"
    r"|villages?|places?|locations?|continents?|territor(?:y|ies)|municipalit(?:y|ies)|address(?:es)?|landmarks?"
    r"|localit(?:y|ies)|pais|ciudad|lugar|pays|ville|lieu|stadt|ort|paese|citta|luogo|cidade|страна|регион|город|место"
    r"|国家|國家|地区|城市|地点|国|地域|都市|場所|국가|지역|도시|장소)"
)
_TEMPLATE = re.compile(
    rf"(?:(?:the|a|an|your|insert|enter|some|any|of|or|name|names|here|specific|exact|precise|predicted|correct|true"
    rf"|final|answer|same|this|that|my|and|{_KIND}) )*{_KIND}(?: (?:name|names|here|[1-9]|[abcxyz]|or|and|{_KIND}))*"
)
# What a photograph shows. Villages are called so too, so only a known country makes it a name.
_SCENERY = frozenset(
    "forest woods mountain mountains hill hills river lake sea ocean beach sand coast coastline island desert field"
    " fields farm farmland road street highway park bridge valley rural urban suburb suburbs suburban downtown outdoor"
    " outdoors indoor indoors countryside building buildings house houses church station airport harbour harbor".split()
)
_LEVEL = (
    r"(?:country|state|region|province|county|city|town|village|place|location|area|specific|exact"
)
_LEVEL += r"|precise|the|an?)"
_NOT = r"(?:not|cannot|can not|cant|could not|couldnt|unable to|impossible to|hard to|difficult to)(?: be)?"
_KNOW = r"(?:known|clear|sure|certain|possible|given|tell|say|determin\w+|identif\w+|specif\w+|available|applicable)"
_NOTHING = (
    rf"unknown|unsure|uncertain|unclear|undetermined|unidentif\w+|unspecif\w+|undisclosed|indeterminate|{_NOT} {_KNOW}"
    r"|no (?:idea|answer|clue|information|conclusion|data)"
)
_BECAUSE = rf"{_NOT} {_KNOW} (?:from|by|with|without|based on|due to|given|in (?:the|this)) .*"
_PHRASE = re.compile(rf"(?:{_LEVEL} )*(?:(?:is|are) )?(?:(?:{_NOTHING})(?: {_LEVEL})*|{_BECAUSE})")


def is_scenery(text: str) -> bool:
    """Say whether a text is one word for what a photograph shows, such as "forest"."""
    return normalise(text) in _SCENERY


@lru_cache(16_384)
def is_absent(text: str) -> bool:
    """Return True for "", "???", "unknown", "NaN", "TBD", "Country", "[region]", "12.5", "33.9 S"
    and their like: they name no place. "Nan" with one capital is a province of Thailand.
    """
    key = normalise(text)
    if not any(char.isalpha() for char in key) or key in _SAYINGS:
        return True
    if key == "nan" and text.strip() != "Nan":
        return True
    if _TEMPLATE.fullmatch(key) or _PHRASE.fullmatch(key):
        return True
    return looks_like_position(text)
