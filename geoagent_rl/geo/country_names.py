"""Names of countries in all languages, former names, territories, disputed areas, and words that
are wider than a country. From Babel (CLDR), pycountry (ISO 3166) and the tables of assets/geonames;
knows no coordinates."""

from __future__ import annotations

import gettext
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pycountry
from babel import Locale, localedata
from babel.core import UnknownLocaleError

from geoagent_rl.geo.folding import normalise

# The second country of a name that the first has by default: the rest of the address decides.
SECOND = {"congo": "CD", "kongo": "CD", "korea": "KP", "virgin islands": "VG", "saint martin": "SX"}

# Territories with an ISO 3166-1 code of their own that people, and ISO 3166-2, also write under
# another country.
TERRITORIES = {
    "CN": ("HK", "MO", "TW"), "US": ("PR", "GU", "VI", "AS", "MP", "UM"), "NO": ("SJ", "BV"), "FI": ("AX",),
    "FR": ("GP", "MQ", "GF", "RE", "YT", "PM", "BL", "MF", "NC", "PF", "WF", "TF"), "DK": ("GL", "FO"),
    "NL": ("AW", "CW", "SX", "BQ"), "AU": ("CX", "CC", "NF"), "NZ": ("CK", "NU", "TK"), "MA": ("EH",), "RS": ("XK",),
    "GB": ("GI", "IM", "JE", "GG", "BM", "KY", "FK", "SH", "TC", "VG", "AI", "MS", "GS", "IO", "PN"),
}  # fmt: skip
CITY_STATES = ("HK", "MO", "SG", "MC", "GI")  # their town's names are the country's
# Areas that two states claim or hold, or that left one of them: (state named, where GeoNames files
# it, its admin1 codes there; "-": places without a region, "*": all).
# Found whichever state is named; not a judgement on whose they are.
DISPUTED = (
    ("RU", "UA", "11 20 05 14 08 26"), ("AM", "AZ", "61 55 56 64 65 26 28 03 14 18 43 57 59"), ("RU", "GE", "02 73 71"),
    ("TR", "CY", "01 02 04"), ("PK", "IN", "12 41"), ("IN", "PK", "06 07"), ("CN", "IN", "30 41"),
    ("IL", "SY", "03"), ("SY", "IL", "03 -"), ("JP", "RU", "64"), ("SD", "SS", "*"), ("SS", "SD", "50 62"),
    ("PS", "IL", "06 WE -"), ("UA", "MD", "58"), ("RU", "MD", "58"), ("SO", "ET", "14"), ("IL", "PS", "*"),
    ("AR", "FK", "*"), ("ES", "GI", "*"),
    ("RS", "ME", "*"), ("ET", "ER", "*"), ("ID", "TL", "*"),
)  # fmt: skip

# CLDR's codes of the United Nations' areas, as continents of GeoNames
_AREAS = {
    "001": "", "UN": "", "002": "AF", "011": "AF", "014": "AF", "015": "AF", "017": "AF", "018": "AF", "202": "AF",
    "142": "AS", "143": "AS", "145": "AS AF", "030": "AS", "034": "AS", "035": "AS", "150": "EU", "151": "EU",
    "154": "EU", "155": "EU", "039": "EU", "EU": "EU", "EZ": "EU", "003": "NA", "021": "NA", "013": "NA",
    "029": "NA", "005": "SA", "419": "SA NA", "019": "SA NA", "009": "OC", "053": "OC", "054": "OC", "057": "OC",
    "061": "OC", "QO": "OC",
}  # fmt: skip
_TWO_CONTINENTS = {
    "TR": "EU", "RU": "AS", "KZ": "EU", "GE": "EU", "AZ": "EU", "AM": "EU", "CY": "EU", "EG": "AS", "ID": "OC",
    "TL": "OC", "PA": "SA", "TT": "SA", "AW": "SA", "CW": "SA", "BQ": "SA", "AU": "AS", "GL": "EU", "YE": "AF",
}  # fmt: skip

# Words by which inverted, abbreviated and full names of one country become one set of words
_EXPANSIONS = {
    "rep": "republic", "dem": "democratic", "ppl": "peoples", "people": "peoples", "fed": "federated",
    "federal": "federated", "federative": "federated", "is": "islands", "isl": "islands", "isls": "islands",
    "island": "islands", "ter": "territory", "terr": "territory", "territories": "territory", "sts": "states",
    "st": "saint", "ste": "saint", "s": "south", "n": "north", "e": "east", "w": "west", "c": "central",
    "eq": "equatorial",
    "southern": "south", "northern": "north", "eastern": "east", "western": "west", "herz": "herzegovina",
    "hercegovina": "herzegovina", "fr": "french", "br": "british", "brit": "british", "barb": "barbuda",
    "pr": "peoples republic", "pdr": "peoples democratic republic", "rb": "bolivarian republic", "afr": "african",
    "fyr": "former yugoslav republic", "dr": "democratic republic", "sar": "", "soc": "socialist",
    "dom": "dominican", "vin": "vincent", "u": "united", "utd": "united", "gren": "grenadines", "grens": "grenadines",
}  # fmt: skip
_STOP = frozenset(
    "of the and a la le les el los las de du des del da do di and y et und e part".split()
)


def bag(key: str) -> str:
    """Return the words of a name in no order, abbreviations written out: "=congo democratic
    republic" of "congo dem rep" and "democratic republic of the congo". "" where none is left."""
    words: set[str] = set()
    for word in key.split(" "):
        words.update(_EXPANSIONS.get(word, word).split())
    words -= _STOP
    return "=" + " ".join(sorted(words)) if words else ""


def alias_rows() -> Iterator[tuple[str, str, int]]:
    """Yield (name, country code, weight) of the aliases and of SECOND."""
    for code, names in _table("country_aliases.tsv"):
        for name in names.split("|"):
            yield name, code, 10_000
    for name, code in SECOND.items():
        yield name, code, 1


def country_names(codes: set[str]) -> dict[str, dict[str, int]]:
    """Return {country code: {name: how many locales of CLDR and catalogues of ISO use it}} for the
    codes given."""
    names: dict[str, dict[str, int]] = {code: defaultdict(int) for code in codes}
    for territories in _locales():
        for code, name in territories.items():
            if code in names:
                names[code][name] += 1
    english = {}
    for country in pycountry.countries:
        if country.alpha_2 not in names:
            continue
        for field in ("name", "official_name", "common_name"):
            if told := getattr(country, field, ""):
                names[country.alpha_2][told] += 1
                english[told] = country.alpha_2
    for translate in _catalogues():
        for name, code in english.items():
            if (told := translate(name)) != name:
                names[code][told] += 1
    return names


def vague_names(continents: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return {key: (kind, codes of the countries it may mean)} of continents ("continent") and
    unions ("union").

    `continents` are GeoNames' continents by country code."""
    rows: dict[str, tuple[str, str]] = {}

    def add(name: str, areas: str) -> None:
        wanted = set(areas.split()) or set(continents.values())
        codes = [
            code
            for code, continent in sorted(continents.items())
            if continent in wanted or _TWO_CONTINENTS.get(code) in wanted
        ]
        rows.setdefault(normalise(name), ("continent", " ".join(codes)))

    for names, areas in _table("areas.tsv"):
        for name in names.split("|"):
            add(name, areas)
    for territories in _locales():
        for code, name in territories.items():
            if code in _AREAS:
                add(name, _AREAS[code])
    for names, codes in _table("unions.tsv"):
        for name in names.split("|"):
            rows[normalise(name)] = ("union", codes)
    rows.pop("", None)
    return rows


def _table(name: str) -> Iterator[list[str]]:
    """Rows of assets/geonames/NAME: everyday, short, official and former names of countries by
    code; unions of states with their members' codes; areas of the world with their continents."""
    text = (files("geoagent_rl") / "assets" / "geonames" / name).read_text(encoding="utf-8")
    yield from (line.split("\t") for line in text.splitlines())


def _locales() -> Iterator[dict[str, str]]:
    """Yield the names of territories in every language of CLDR."""
    for identifier in localedata.locale_identifiers():
        if len(identifier.partition("_")[2]) in (2, 3):
            continue  # a country's variant of a language: nearly the same names
        try:
            yield dict(Locale.parse(identifier).territories)
        except (UnknownLocaleError, ValueError):
            continue


def _catalogues() -> Iterator[Callable[[str], str]]:
    for path in sorted(Path(pycountry.LOCALES_DIR).glob("*/LC_MESSAGES/iso3166-1.mo")):
        with path.open("rb") as file:
            yield gettext.GNUTranslations(file).gettext
