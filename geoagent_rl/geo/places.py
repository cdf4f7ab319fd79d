"""Place names as text: normal form, lookup keys, and the levels of an address. Knows no coordinates
and no files.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Letters that Unicode does not decompose, and that people type without their stroke or ligature.
_FOLD = str.maketrans({
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t", "ə": "a",
    "ŋ": "n", "ɓ": "b", "ɗ": "d", "ƙ": "k", "ё": "е",
})  # fmt: skip
_SILENT = re.compile(
    r"[.'’‘`´ʹʺʻʼʽʾʿˈ′\u0640\u200b-\u200f\u2060\ufeff]"
)  # vanish: St. -> st, Xi'an -> xian
_SPACES = re.compile(r"\s+")
_SEPARATOR = re.compile(r"\s*[;；]\s*")
_COMMA = re.compile(r"\s*[,，、،()/|]\s*|\s[-–—]\s")
_VAGUE = re.compile(
    r"^(?:(?:in|the|near|nearby|downtown|central|inner|outer|greater|around|outside|by|close to"
    r"|vicinity of|(?:outskirts|suburbs?|center|centre|area|part|side) of|of|probably|possibly|likely|somewhere) )+"
    r"|(?: (?:area|region|suburbs?|outskirts|city cent(?:er|re)|downtown|vicinity|environs))+$"
)

ABBREVIATIONS = {
    "st": "saint", "ste": "sainte", "mt": "mount", "ft": "fort", "sta": "santa", "sto": "santo", "&": "and",
}  # fmt: skip

# Words of an administrative kind, in the languages of OSV-5M and GeoNames labels. They carry no
# name.
GENERIC = frozenset(
    """province provincia provincie provinsi provinz provins prov region regione regiao rehiyon state estado estat
    staat land bundesland freistaat canton kanton cantone county comitat komitat judet judetul megye lan lans
    landskap fylke fylkeskommune maakond maakunta apskritis apskr rajons novads voivodeship wojewodztwo powiat
    powiatu vilayet velayat wilaya wilayat welayaty viloyati viloyat oblysy oblast oblasti krai kray kraj oblusu
    respublika republic republika republica autonomous avtonomnyy okrug district distrikt distrito districts
    governorate gouvernorat muhafazat muhafazah mintaqat mintaqah departamento department departement prefecture
    prefectura ken fu sheng shi zizhiqu zizhizhou diqu qu xian tinh changwat do si gun nomos periferia
    perifereia nomarchia parish parroquia division municipality municipio municipiul kommun kommune gemeente
    gemeinde commune comune city town village borough metropolitan metropolitana area administrative territory
    territoriy comunidad autonoma comunitat communaute ile atoll atholhu rayon raionul aimak aymag zila okres
    oblisi voblasc il ili ilcesi kabupaten kota daerah istimewa obcina opstina zupanija grad oras tambon amphoe
    khwaeng khet zhen xiang jiedao capital special politischer bezirk landkreis kreis rreth rrethi qark qarku
    shahrestan ostan al ar as ash an at ad az el ul ed de du des of the da di del dei della la le les los las
    van den der область края край республика автономный округ район обл місто город г област провинция регион
    محافظة منطقة ولاية استان المنطقة จังหวัด อำเภอ ตำบล περιφέρεια νομός marz marzi shabiyat qalasy sahari
    rayonu misto quarter circonscription autonomna pokrajina mayorality stad voblasts
    landeshauptstadt hansestadt kreisfreie stadt""".split()
)
_EAST_ASIAN_SUFFIX = re.compile(
    r"(?<=..)(?:壮族自治区|回族自治区|维吾尔自治区|自治区|自治州|特别行政区|地区|省|市|县|縣|県|府|都|区|區|州|町|村"
    r"|특별자치도|특별자치시|특별시|광역시|도|시|군|구)$"
)
# Answers that name nothing: single words, and English phrases such as "the exact city cannot be
# determined".
ABSENT = frozenset(
    ("n a", *"none null nil 未知 不明 不详 无 desconocido inconnu unbekannt неизвестно".split())
)
_LEVEL = (
    r"(?:country|state|region|province|county|city|town|village|place|location|area"
    r"|specific|exact|precise|the|an?)"
)
_NOT = r"(?:not|cannot|can not|cant|could not|couldnt|unable to|impossible to|hard to|difficult to)(?: be)?"
_KNOW = r"(?:known|clear|sure|certain|possible|given|tell|say|determin\w+|identif\w+|specif\w+|available|applicable)"
_NOTHING = (
    rf"unknown|unsure|uncertain|unclear|undetermined|unidentif\w+|unspecif\w+|undisclosed|indeterminate|{_NOT} {_KNOW}"
    r"|no (?:idea|answer|clue|information|conclusion|data)"
)
# "... the image"
_BECAUSE = rf"{_NOT} {_KNOW} (?:from|by|with|without|based on|due to|given|in (?:the|this)) .*"
_PHRASE = re.compile(rf"(?:{_LEVEL} )*(?:(?:is|are) )?(?:(?:{_NOTHING})(?: {_LEVEL})*|{_BECAUSE})")


def _fold_accents(text: str) -> str:
    """Drop accents from Latin and Greek letters only: marks of other scripts (й, バ, हि) change the
    letter.
    """
    out = []
    base_foldable = False
    for char in unicodedata.normalize("NFD", text):
        if "\u0300" <= char <= "\u036f":
            if not base_foldable:
                out.append(char)
            continue
        base_foldable = char < "\u0400" or "\u1e00" <= char <= "\u1fff"
        out.append(char)
    return unicodedata.normalize("NFC", "".join(out))


@lru_cache(16_384)
def normalise(text: str) -> str:
    """The form in which two spellings of a name are equal: NFKC, casefold, no accents, no
    punctuation, single spaces.

    "São  Paulo" -> "sao paulo", "Xi’an" -> "xian", "Ｔｏｋｙｏ" -> "tokyo"; other scripts stay
    as they are.
    """
    if text.isascii():
        folded = text.lower()
    else:
        folded = _fold_accents(unicodedata.normalize("NFKC", text).casefold()).translate(_FOLD)
    folded = _SILENT.sub("", folded)
    if not folded.replace(" ", "").isalnum():
        folded = "".join(
            c if c.isalnum() or c == "&" or unicodedata.category(c)[0] == "M" else " "
            for c in folded
        )
    return _SPACES.sub(" ", folded).strip()


def lookup_key(text: str) -> str:
    """`normalise` with common abbreviations written out ("St. Gallen" and "Saint Gallen" have one
    key).
    """
    key = normalise(text)
    if " " not in key:
        return key
    return " ".join(ABBREVIATIONS.get(word, word) for word in key.split(" "))


def core_key(key: str) -> str:
    """A lookup key without words of an administrative kind ("province of quezon" -> "quezon");
    never empty.

    "mintaqat al bahah" -> "bahah", "青森県" -> "青森". Coarser than the key: use it only
    where the key fails."""
    words = [word for word in key.split(" ") if word not in GENERIC]
    return _EAST_ASIAN_SUFFIX.sub("", " ".join(words) if words else key)


def plain_key(key: str) -> str:
    """A lookup key without vague words about it ("near the outskirts of paris" -> "paris"); never
    empty.
    """
    return _VAGUE.sub("", key) or key


def undouble(key: str) -> str:
    """A key with the written-out umlauts and Nordic letters made single ("gaevleborg" ->
    "gavleborg").
    """
    for double, single in (("ae", "a"), ("oe", "o"), ("ue", "u"), ("aa", "a")):
        key = key.replace(double, single)
    return key


@lru_cache(16_384)
def is_absent(text: str) -> bool:
    """True for "", "???", "unknown", "cannot be determined from the image" and their like: they say
    nothing.
    """
    key = normalise(text)
    return not key or key in ABSENT or _PHRASE.fullmatch(key) is not None


def split_levels(address: str) -> tuple[str, str, str]:
    """("Country", "Region", "Place") of "Country; Region; Place"; ； counts as ;.

    Missing levels are "". Parts beyond the third are joined to the third with ", ", as the paper's
    code does."""
    parts = [_SPACES.sub(" ", part).strip() for part in _SEPARATOR.split(address.strip())]
    country, region, *rest = (*parts, "", "")
    return country, region, ", ".join(part for part in rest if part)


def comma_parts(level: str) -> list[str]:
    """The parts of one level that name something: "MN,Saint Louis County" -> ["MN", "Saint Louis
    County"].
    """
    return [part for part in _COMMA.split(level.strip()) if not is_absent(part)]
