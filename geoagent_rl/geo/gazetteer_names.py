"""Names of the divisions of countries in many languages and as they were before, from pycountry and
the tables below. Knows no coordinates."""

from __future__ import annotations

import gettext
import re
from collections import defaultdict
from pathlib import Path

import pycountry

_VARIANTS = re.compile(r"\s*[\[\](),/]\s*|\s[-–]\s")

# Names that divisions had before they were merged or renamed; labels and models still use them.
FORMER_REGIONS = {
    "DE.07": ("NRW",), "US.CA": ("Calif.",), "ES.59": ("Euskadi",), "IN.25": ("தமிழ்நாடு",),
    "AF.34": ("Konar",), "AR.07": ("CABA", "Capital Federal"),
    "BF.09": ("High-Basins",), "BF.13": ("Southwest",), "CD.14": ("Katanga", "Shaba"),
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


def variants(name: str) -> list[str]:
    """Return a name and the names it is made of: "Cataluña [Catalunya]" -> itself, "Cataluña",
    "Catalunya".
    """
    parts = [part for part in _VARIANTS.split(name) if len(part) > 2]
    return [name, *parts] if len(parts) > 1 else [name]


def iso_names() -> dict[str, list[str]]:
    """Return {ISO 3166-2 code: names}: the official local names first, then pycountry's
    translations."""
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
