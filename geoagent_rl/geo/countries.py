"""Facts about every country: length of roads, population, land area, continent; and which country a
name means.

The built-in table is made from the CIA World Factbook (public domain) and GeoNames
(assets/factbook/build.py)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import pycountry

from geoagent_rl.types import UserError

if TYPE_CHECKING:
    from geoagent_rl.geo.gazetteer import Gazetteer

CONTINENTS = {
    "AF": "Africa", "AN": "Antarctica", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania",
    "SA": "South America",
}  # fmt: skip
# The built-in table's column names, and those of other tables that are understood.
COLUMNS = {
    "roads_km": ("roads_km", "roadways_km"),
    "population": ("population",),
    "land_km2": ("land_km2", "land_area_km2", "area_km2"),
}


@dataclass(frozen=True, slots=True)
class Country:
    """One country or territory with an ISO 3166-1 code of its own. A figure that is not known is
    None.
    """

    iso2: str
    name: str
    continent: str  # English name; "" where the table does not say
    roads_km: float | None
    population: float | None
    land_km2: float | None


@cache
def countries() -> Mapping[str, Country]:
    """Return the built-in table by ISO 3166-1 alpha-2 code."""
    text = (files("geoagent_rl") / "assets" / "factbook" / "countries.tsv").read_text(
        encoding="utf-8"
    )
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return country_table(enumerate(rows, start=2), "the built-in table")


def country_table(rows: Iterable[tuple[int, Mapping[str, str]]], source: str) -> dict[str, Country]:
    """Return a table of countries by ISO 3166-1 alpha-2 code.

    rows: number and cells of iso2, roads_km, population, land_km2 and perhaps name and continent.
    Raises UserError naming `source` and the row."""
    rows = list(rows)
    header = list(rows[0][1]) if rows else []
    used = {
        column: next((name for name in names if name in header), None)
        for column, names in COLUMNS.items()
    }
    if absent := [name for name, found in {"iso2": "iso2" in header, **used}.items() if not found]:
        raise UserError(
            f"{source} has no column {', '.join(absent)}; its columns are {', '.join(header) or 'none'}"
        )
    table = {}
    for number, row in rows:
        try:
            figures = {
                column: float(row[name]) if name and row[name] else None
                for column, name in used.items()
            }
        except (TypeError, ValueError):
            raise UserError(
                f"{source}, row {number}: a figure is not a number; correct it or leave it blank"
            ) from None
        code = row["iso2"]
        table[code] = Country(
            code, row.get("name") or code, CONTINENTS.get(row.get("continent", ""), ""), **figures
        )
    return table


class CountryCodes:
    """ISO codes of two or three letters and names in many languages -> ISO 3166-1 alpha-2; "" where
    unknown.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {"": ""}
        self._gazetteer: Gazetteer | None = None

    def __call__(self, text: str) -> str:
        """Return the ISO 3166-1 code that a name or code means; "" where it means none."""
        if text not in self._known:
            self._known[text] = self._find(text)
        return self._known[text]

    def _find(self, text: str) -> str:
        text = text.strip()
        upper = text.upper()
        if upper in countries():
            return upper
        if len(text) == 3 and (found := pycountry.countries.get(alpha_3=upper)):
            return found.alpha_2
        if self._gazetteer is None:
            from geoagent_rl.geo.gazetteer import Gazetteer  # only names need it

            self._gazetteer = Gazetteer.open()
        matches = self._gazetteer.candidates("country", text)
        return matches[0].country_code if matches else ""
