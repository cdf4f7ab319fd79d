"""Names of countries and of their divisions in many languages, from Babel and pycountry. Knows no coordinates."""

from __future__ import annotations

import gettext
import re
from collections import defaultdict
from pathlib import Path

import pycountry
from babel import Locale, localedata
from babel.core import UnknownLocaleError

_VARIANTS = re.compile(r"\s*[\[\](),/]\s*|\s[-–]\s")

# Everyday names that CLDR has under another form. Parts of the United Kingdom stand for it.
COUNTRY_ALIASES = {
    "usa": "US", "us of a": "US", "america": "US", "the united states": "US", "united states of america": "US",
    "the states": "US", "uk": "GB", "great britain": "GB", "britain": "GB", "england": "GB", "scotland": "GB",
    "wales": "GB", "northern ireland": "GB", "u k": "GB", "republic of ireland": "IE", "eire": "IE", "holland": "NL",
    "the netherlands": "NL", "korea": "KR", "south korea": "KR", "republic of korea": "KR", "north korea": "KP",
    "dprk": "KP", "uae": "AE", "emirates": "AE", "drc": "CD", "dr congo": "CD", "congo kinshasa": "CD",
    "democratic republic of congo": "CD", "democratic republic of the congo": "CD", "congo": "CG",
    "congo brazzaville": "CG", "republic of congo": "CG", "republic of the congo": "CG", "ivory coast": "CI",
    "czech republic": "CZ", "czechia": "CZ", "macedonia": "MK", "north macedonia": "MK", "burma": "MM",
    "swaziland": "SZ", "cape verde": "CV", "east timor": "TL", "vatican": "VA", "holy see": "VA", "palestine": "PS",
    "west bank": "PS", "gaza": "PS", "kosovo": "XK", "taiwan": "TW", "republic of china": "TW", "prc": "CN",
    "peoples republic of china": "CN", "mainland china": "CN", "hong kong": "HK", "macau": "MO", "macao": "MO",
    "russian federation": "RU", "ussr": "RU", "bosnia": "BA", "micronesia": "FM", "reunion": "RE",
    "reunion island": "RE", "turkiye": "TR", "turkey": "TR", "brasil": "BR", "espana": "ES", "bolivia": "BO",
    "brunei": "BN", "laos": "LA", "syria": "SY", "iran": "IR", "moldova": "MD", "tanzania": "TZ", "venezuela": "VE",
    "vietnam": "VN", "falklands": "FK", "virgin islands": "VI", "us virgin islands": "VI", "svalbard": "SJ",
    "curacao": "CW",
}  # fmt: skip

# Names that divisions had before they were merged or renamed; labels and models still use them.
FORMER_REGIONS = {
    "NO.46": ("Hordaland", "Sogn og Fjordane"), "NO.34": ("Hedmark", "Oppland"),
    "NO.42": ("Aust-Agder", "Vest-Agder"), "NO.21": ("Sør-Trøndelag", "Nord-Trøndelag"),
    "FR.44": ("Alsace", "Lorraine", "Champagne-Ardenne", "Alsace-Champagne-Ardenne-Lorraine"),
    "FR.75": ("Aquitaine", "Limousin", "Poitou-Charentes", "Aquitaine-Limousin-Poitou-Charentes"),
    "FR.76": ("Midi-Pyrénées", "Languedoc-Roussillon", "Languedoc-Roussillon-Midi-Pyrénées"),
    "FR.84": ("Rhône-Alpes", "Auvergne"), "FR.27": ("Bourgogne", "Burgundy", "Franche-Comté"),
    "FR.32": ("Picardie", "Picardy", "Nord-Pas-de-Calais", "Nord-Pas-de-Calais-Picardie"),
    "FR.28": ("Haute-Normandie", "Basse-Normandie", "Upper Normandy", "Lower Normandy"), "FR.24": ("Centre",),
    "MA.09": ("Souss-Massa-Draâ",), "MA.01": ("Tanger-Tétouan",), "MA.04": ("Gharb-Chrarda-Béni Hssen",),
    "MA.06": ("Grand Casablanca", "Chaouia-Ouardigha"), "MA.07": ("Marrakech-Tensift-Al Haouz", "Doukkala-Abda"),
    "MA.05": ("Tadla-Azilal",), "MA.03": ("Fès-Boulemane", "Taza-Al Hoceima-Taounate"),
    "MA.08": ("Meknès-Tafilalet",), "MA.10": ("Guelmim-Es Smara",), "MA.11": ("Laâyoune-Boujdour-Sakia El Hamra",),
    "MA.12": ("Oued ed Dahab-Lagouira",), "IN.21": ("Orissa",), "IN.39": ("Uttaranchal",), "IN.22": ("Pondicherry",),
    "RU.29": ("Kemerovo Oblast",), "TR.32": ("Icel",), "TR.04": ("Agri",), "ID.36": ("Irian Jaya",),
    "CN.14": ("Xizang",), "MX.09": ("Distrito Federal",),
}  # fmt: skip

# Territories with an ISO 3166-1 code of their own that people, and ISO 3166-2, also write under another country.
TERRITORIES = {
    "CN": ("HK", "MO", "TW"), "US": ("PR", "GU", "VI", "AS", "MP", "UM"), "NO": ("SJ",), "FI": ("AX",),
    "FR": ("GP", "MQ", "GF", "RE", "YT", "PM", "BL", "MF", "NC", "PF", "WF", "TF"), "DK": ("GL", "FO"),
    "NL": ("AW", "CW", "SX", "BQ"), "AU": ("CX", "CC", "NF"), "NZ": ("CK", "NU", "TK"), "MA": ("EH",), "RS": ("XK",),
    "GB": ("GI", "IM", "JE", "GG", "BM", "KY", "FK", "SH", "TC", "VG", "AI", "MS", "GS", "IO", "PN"),
}  # fmt: skip


def variants(name: str) -> list[str]:
    """A name and the names it is made of: "Cataluña [Catalunya]" -> itself, "Cataluña", "Catalunya"."""
    parts = [part for part in _VARIANTS.split(name) if len(part) > 2]
    return [name, *parts] if len(parts) > 1 else [name]


def iso_names() -> dict[str, list[str]]:
    """{ISO 3166-2 code: names}: the official local names first, then pycountry's translations."""
    own = {division.code: division.name for division in pycountry.subdivisions}
    names = {code: dict.fromkeys(variants(name)) for code, name in own.items()}
    by_name = defaultdict(list)
    for code, name in own.items():
        by_name[name].append(code)
    for catalogue in sorted(Path(pycountry.LOCALES_DIR).glob("*/LC_MESSAGES/iso3166-2.mo")):
        with catalogue.open("rb") as file:
            translate = gettext.GNUTranslations(file).gettext
        for name, codes in by_name.items():
            if (told := translate(name)) != name:
                for code in codes:
                    names[code].update(dict.fromkeys(variants(told)))
    return {code: list(found) for code, found in names.items()}


def country_names(codes: set[str]) -> dict[str, dict[str, int]]:
    """{country code: {name: how many locales of CLDR use it}} for the ISO codes given."""
    names: dict[str, dict[str, int]] = {code: defaultdict(int) for code in codes}
    for identifier in localedata.locale_identifiers():
        if "_" in identifier and identifier.split("_")[1].isupper():
            continue  # a country's variant of a language: nearly the same names
        try:
            territories = Locale.parse(identifier).territories
        except (UnknownLocaleError, ValueError):
            continue
        for code, name in territories.items():
            if code in names:
                names[code][name] += 1
    for country in pycountry.countries:
        for field in ("name", "official_name", "common_name"):
            if country.alpha_2 in names and hasattr(country, field):
                names[country.alpha_2][getattr(country, field)] += 1
    return names
