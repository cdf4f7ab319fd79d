"""Names of countries and of their divisions in many languages, from Babel and pycountry. Knows no
coordinates.
"""

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
    "the netherlands": "NL", "korea": "KR", "korea south": "KR", "korea north": "KP", "south korea": "KR",
    "republic of korea": "KR", "north korea": "KP", "dprk": "KP", "uae": "AE", "emirates": "AE", "drc": "CD",
    "dr congo": "CD", "congo kinshasa": "CD", "democratic republic of congo": "CD",
    "democratic republic of the congo": "CD", "congo": "CG", "congo brazzaville": "CG", "republic of congo": "CG",
    "republic of the congo": "CG", "ivory coast": "CI", "czech republic": "CZ", "czechia": "CZ", "macedonia": "MK",
    "north macedonia": "MK", "burma": "MM", "swaziland": "SZ", "cape verde": "CV", "east timor": "TL",
    "vatican": "VA", "holy see": "VA", "palestine": "PS", "west bank": "PS", "gaza": "PS", "kosovo": "XK",
    "taiwan": "TW", "republic of china": "TW", "prc": "CN", "peoples republic of china": "CN", "mainland china": "CN",
    "hong kong": "HK", "macau": "MO", "macao": "MO", "russian federation": "RU", "ussr": "RU", "bosnia": "BA",
    "micronesia": "FM", "reunion": "RE", "reunion island": "RE", "turkiye": "TR", "turkey": "TR", "brasil": "BR",
    "espana": "ES", "bolivia": "BO", "brunei": "BN", "laos": "LA", "syria": "SY", "iran": "IR", "moldova": "MD",
    "tanzania": "TZ", "venezuela": "VE", "vietnam": "VN", "falklands": "FK", "virgin islands": "VI",
    "us virgin islands": "VI", "svalbard": "SJ", "curacao": "CW",
}  # fmt: skip

# Names that divisions had before they were merged or renamed; labels and models still use them.
FORMER_REGIONS = {
    "AF.34": ("Konar",), "AR.07": ("CABA", "Capital Federal"),
    "BF.09": ("High-Basins",), "BF.13": ("Southwest",), "CD.14": ("Katanga",),
    "CD.20": ("Bandundu",), "CD.23": ("Kasai-Occidental",), "CD.30": ("Orientale", "Eastern Province"),
    "CI.78": ("Dix-Huit Montagnes",), "CN.14": ("Xizang",), "EG.14": ("Eastern Province",),
    "ET.56": ("Southern Nations, Nationalities, and People's Region", "SNNPR"), "FI.05": ("Southern Finland",),
    "FI.10": ("Eastern Finland",), "FI.15": ("Western Finland",), "FI.17": ("Oulu Province",), "FR.24": ("Centre",),
    "FR.27": ("Bourgogne", "Burgundy", "Franche-Comté"),
    "FR.28": ("Haute-Normandie", "Basse-Normandie", "Upper Normandy", "Lower Normandy"),
    "FR.32": ("Picardie", "Picardy", "Nord-Pas-de-Calais", "Nord-Pas-de-Calais-Picardie"),
    "FR.44": ("Alsace", "Lorraine", "Champagne-Ardenne", "Alsace-Champagne-Ardenne-Lorraine"),
    "FR.75": ("Aquitaine", "Limousin", "Poitou-Charentes", "Aquitaine-Limousin-Poitou-Charentes"),
    "FR.76": ("Midi-Pyrénées", "Languedoc-Roussillon", "Languedoc-Roussillon-Midi-Pyrénées"),
    "FR.84": ("Rhône-Alpes", "Auvergne"), "GH.13": ("Brong-Ahafo",), "GL.11839537": ("Qaasuitsup",),
    "ID.36": ("Irian Jaya",), "IN.07": ("NCT",), "IN.12": ("Kashmir",), "IN.14": ("Laccadives",),
    "IN.21": ("Orissa",), "IN.22": ("Pondicherry",), "IN.39": ("Uttaranchal",),
    "IN.52": ("Daman and Diu", "Dadra and Nagar Haveli"), "KP.03": ("Hamgyong-namdo",), "KP.06": ("Hwanghae-namdo",),
    "KP.07": ("Hwanghae-bukto",), "KP.15": ("P'yongan-namdo",), "KP.17": ("Hamgyong-bukto",),
    "KZ.10": ("Ongtustik Qazaqstan", "South Kazakhstan"), "LB.05": ("Mont-Liban",), "LB.06": ("Liban-Sud",),
    "LB.09": ("Liban-Nord",), "MA.01": ("Tanger-Tétouan",), "MA.03": ("Fès-Boulemane", "Taza-Al Hoceima-Taounate"),
    "MA.04": ("Gharb-Chrarda-Béni Hssen", "Rabat-Salé-Zemmour-Zaër"), "MA.05": ("Tadla-Azilal",),
    "MA.06": ("Grand Casablanca", "Chaouia-Ouardigha"), "MA.07": ("Marrakech-Tensift-Al Haouz", "Doukkala-Abda"),
    "MA.08": ("Meknès-Tafilalet",), "MA.09": ("Souss-Massa-Draâ",), "MA.10": ("Guelmim-Es Smara",),
    "MA.11": ("Laâyoune-Boujdour-Sakia El Hamra",), "MA.12": ("Oued ed Dahab-Lagouira",),
    "MG.26": ("Vatovavy Fitovinany",), "MX.09": ("Distrito Federal",), "NO.21": ("Sør-Trøndelag", "Nord-Trøndelag"),
    "NO.34": ("Hedmark", "Oppland"), "NO.42": ("Aust-Agder", "Vest-Agder"),
    "NO.46": ("Hordaland", "Sogn og Fjordane"), "NP.1": ("Eastern Region",), "NP.3": ("Central Region",),
    "NP.4": ("Western Region",), "NP.6": ("Mid Western",), "NP.7": ("Far Western",), "OM.04": ("Ash Sharqiyah",),
    "OM.11": ("Al Batinah",), "PK.03": ("Federally Administered Tribal Areas", "FATA"), "RU.29": ("Kemerovo Oblast",),
    "RU.68": ("North Ossetia",), "RU.93": ("Transbaikal Territory", "Chita Oblast"), "SD.56": ("Shamal Kurdufan",),
    "TR.04": ("Agri",), "TR.32": ("Icel",), "UA.12": ("Misto Kyiv",), "VN.08": ("Hà Giang",), "VN.15": ("Yên Bái",),
    "VN.19": ("Bắc Kạn",), "VN.24": ("Bắc Giang",), "VN.25": ("Vĩnh Phúc", "Hòa Bình"), "VN.31": ("Hải Dương",),
    "VN.33": ("Thái Bình",), "VN.37": ("Nam Định", "Hà Nam"), "VN.44": ("Quảng Bình",), "VN.48": ("Quảng Nam",),
    "VN.51": ("Kon Tum",), "VN.52": ("Bình Định",), "VN.56": ("Ninh Thuận",),
    "VN.66": ("Phú Yên", "Dac Lac", "Dac Lak"), "VN.68": ("Đắk Nông", "Dac Nong", "Bình Thuận"),
    "VN.75": ("Bình Phước",), "VN.79": ("Bà Rịa-Vũng Tàu", "Bình Dương"), "VN.80": ("Long An",),
    "VN.82": ("Tiền Giang",), "VN.86": ("Bến Tre", "Trà Vinh"), "VN.91": ("Kiên Giang",),
    "VN.92": ("Hậu Giang", "Sóc Trăng"), "VN.96": ("Bạc Liêu",), "ZA.03": ("Orange Free State",),
    "ZA.06": ("Transvaal",),
}  # fmt: skip

# Territories with an ISO 3166-1 code of their own that people, and ISO 3166-2, also write under
# another country.
TERRITORIES = {
    "CN": ("HK", "MO", "TW"), "US": ("PR", "GU", "VI", "AS", "MP", "UM"), "NO": ("SJ",), "FI": ("AX",),
    "FR": ("GP", "MQ", "GF", "RE", "YT", "PM", "BL", "MF", "NC", "PF", "WF", "TF"), "DK": ("GL", "FO"),
    "NL": ("AW", "CW", "SX", "BQ"), "AU": ("CX", "CC", "NF"), "NZ": ("CK", "NU", "TK"), "MA": ("EH",), "RS": ("XK",),
    "GB": ("GI", "IM", "JE", "GG", "BM", "KY", "FK", "SH", "TC", "VG", "AI", "MS", "GS", "IO", "PN"),
}  # fmt: skip


def variants(name: str) -> list[str]:
    """A name and the names it is made of: "Cataluña [Catalunya]" -> itself, "Cataluña",
    "Catalunya".
    """
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
