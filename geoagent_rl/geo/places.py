"""Place names as text: normal form, lookup keys, and the levels of an address. Knows no coordinates
and no files.
"""

from __future__ import annotations

import re

from geoagent_rl.geo.absent import is_absent
from geoagent_rl.geo.folding import fold, normalise

_SPACES = re.compile(r"\s+")
_SEPARATOR = re.compile(r"\s*[;；]\s*")
_COMMA = re.compile(r"\s*[,，、،()/|]\s*|\s[-–—]\s")
_LABEL = re.compile(
    r"^[\s\"'*`\-•\d.)]{0,8}(?:country|nation|state|region|province|admin(?:istrative)?[ _]?(?:level)?[ _]?[12]?|county"
    r"|district|city|town|village|place|location|landmark|(?:precise|specific|exact)[ _](?:location|place)"
    r"|city[ /,]+town(?:[ /,]+(?:or )?landmark)?)(?:[ _]name)?[\s\"'*`]{0,4}"
    r"(?:[:：=]|->|→|(?<=\s)[-–—](?=\s))[\s\"'*`]*",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"\s*\(?(\d)[.):]\s+(?=\D)(.*)", re.DOTALL)
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
_GENERIC = """province provincia provincie provinsi provinz provins prov region regione regiao rehiyon state estado
    estat staat land bundesland freistaat canton kanton cantone county comitat komitat judet judetul megye lan lans
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
    landeshauptstadt hansestadt kreisfreie stadt voivodstvo wojewodztwa prowincja okrag
    island islands isla islas isola ilha ilhas insel ada adasi ostrov остров""".split()
GENERIC = frozenset(fold(word) for word in _GENERIC)  # in the form that keys have
_EAST_ASIAN_SUFFIX = re.compile(
    r"(?<=..)(?:壮族自治区|回族自治区|维吾尔自治区|自治区|自治州|特别行政区|地区|省|市|县|府|都|区|州|町|村|岛"
    r"|특별자치도|특별자치시|특별시|광역시|도|시|군|구)$"
)


def lookup_key(text: str) -> str:
    """Do what `normalise` does, with common abbreviations written out ("St. Gallen" and "Saint
    Gallen" have one key)."""
    key = normalise(text)
    if " " not in key:
        return key
    return " ".join(ABBREVIATIONS.get(word, word) for word in key.split(" "))


def core_key(key: str) -> str:
    """Return a lookup key without words of an administrative kind ("province of quezon" ->
    "quezon"); never empty.

    "mintaqat al bahah" -> "bahah", "青森県" -> "青森". Coarser than the key: use it only where the
    key fails."""
    words = [word for word in key.split(" ") if word not in GENERIC]
    return _EAST_ASIAN_SUFFIX.sub("", " ".join(words) if words else key)


def plain_key(key: str) -> str:
    """Return a lookup key without vague words about it ("near the outskirts of paris" -> "paris");
    never empty.
    """
    return _VAGUE.sub("", key) or key


def undouble(key: str) -> str:
    """Return a key with the written-out umlauts and Nordic letters made single ("gaevleborg" ->
    "gavleborg").
    """
    for double, single in (("ae", "a"), ("oe", "o"), ("ue", "u"), ("aa", "a")):
        key = key.replace(double, single)
    return key


def without_label(level: str) -> str:
    """Return a level without the name of its kind before it: "Country: Germany" -> "Germany"."""
    return _LABEL.sub("", level)


def without_numbers(levels: list[str]) -> list[str]:
    """Return levels that are numbered in order ("1. Germany", "2) Bavaria") without their numbers;
    others as they are ("1. Bezirk" alone is a district).
    """
    found = [_NUMBERED.match(level) for level in levels]
    if all(one and int(one[1]) == n for n, one in enumerate(found, 1)):
        return [one[2] for one in found if one]
    return levels


def split_levels(address: str) -> tuple[str, str, str]:
    """Return ("Country", "Region", "Place") of "Country; Region; Place"; ； counts as ;.

    Missing levels are "". Parts beyond the third are joined to the third with ", ", as the paper's
    code does."""
    given = without_numbers(_SEPARATOR.split(address.strip()))
    parts = [_SPACES.sub(" ", without_label(part)).strip() for part in given]
    country, region, *rest = (*parts, "", "")
    return country, region, ", ".join(part for part in rest if part)


def comma_parts(level: str) -> list[str]:
    """Return the parts of one level that name something: "MN,Saint Louis County" -> ["MN", "Saint
    Louis County"].
    """
    return [part for part in _COMMA.split(level.strip()) if not is_absent(part)]
