"""The offline geocoder: an address of up to three levels -> coordinates and the level that was
matched.

Country goes before admin1, admin1 before population: a place that lies in another country, or far
from the region that the address names, never wins; the answer is then the region or the country,
and `Match.level` says so.
Data: GeoNames (CC BY 4.0), packed once per machine by gazetteer_build. May know nothing of services
or caches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer_build import ensure
from geoagent_rl.geo.gazetteer_index import (
    CORE,
    EXACT,
    MAX_PARTS,
    SPELLING,
    TOWN,
    TOWN_RADIUS_KM,
    Feature,
    Index,
)
from geoagent_rl.geo.gazetteer_names import TERRITORIES
from geoagent_rl.geo.places import comma_parts, is_absent, lookup_key, split_levels

# a place this far outside the region named is still taken to be meant (Berlin in "Brandenburg")
NEAR_KM = 25.0
BIG_TOWN = (
    100_000  # a town named as the region is believed against the place only if it is this populous
)
MAX_CHARS = 300  # of a level that are read
CACHED_ADDRESSES = 65_536
_FINENESS = {"place": 3, "region": 2, "country": 1}


@dataclass(frozen=True, slots=True)
class Match:
    """Where an address was found. Degrees (WGS84); a region or country stands at the mean position
    of its people.

    `level` is the finest level of the *address* that was matched, `name` the feature that matched
    it. `runner_up_km` is the distance to the next candidate of that name that fitted as well (None:
    there was none), a measure of ambiguity."""

    lat: float
    lon: float
    level: Literal["place", "region", "country"]
    name: str
    admin1: str  # "" for a country
    country_code: str
    provider: str = "gazetteer"
    population: int = 0
    runner_up_km: float | None = None
    id: str = ""  # "place:<GeoNames id>", "region:<GeoNames code>" or "country:<ISO 3166-1>"


@dataclass(frozen=True, slots=True)
class Place:
    """A populated place of GeoNames (500 people or more), for drawing worlds and samples."""

    name: str
    admin1: str
    country: str
    country_code: str
    lat: float
    lon: float
    population: int


def match_to_json(match: Match | None) -> dict[str, Any]:
    """{lat, lon, level, name, admin1, country_code, provider}; all null but the provider where
    nothing was found.
    """
    keys = ("lat", "lon", "level", "name", "admin1", "country_code")
    return {key: getattr(match, key, None) for key in keys} | {
        "provider": getattr(match, "provider", "gazetteer")
    }


class Gazetteer:
    """Answers from one read-only SQLite file; keeps the last 65,536 addresses in memory. Threads
    may share it.
    """

    def __init__(self, path: Path):
        self._index = Index(path)
        self._cached = lru_cache(CACHED_ADDRESSES)(self._resolve)
        self._cached_text = lru_cache(CACHED_ADDRESSES)(self._resolve_text)

    @classmethod
    def open(cls, cache_dir: str | os.PathLike | None = None) -> Gazetteer:
        """Open the packed gazetteer of this machine, building it first (half a minute) if it is not
        there.

        It lies in `cache_dir`, else $GEOAGENT_CACHE, else the user's cache directory. Raises
        InfraError if it cannot be written, or if another process holds the lock for more than 10
        minutes."""
        return cls(ensure(cache_dir))

    def close(self) -> None:
        self._index.close()

    def geocode(self, country: str, region: str = "", place: str = "") -> Match | None:
        """The finest level that can be placed without contradicting a wider one; None if no level
        can be.

        Levels that say nothing ("", "unknown", "???") count as absent. A country that no one knows
        is treated as absent too, unless it is the name of a region ("Hawaii"), which then stands
        for both."""
        return self._cached(*(level[:MAX_CHARS].strip() for level in (country, region, place)))

    def geocode_text(self, address: str) -> Match | None:
        """Geocode "Country; Region; Place" (； counts as ;), "Place, Region, Country" in either
        order, or one name.
        """
        return self._cached_text(address[: 3 * MAX_CHARS].strip())

    def same_place(self, level: str, a: str, b: str, country: str = "", region: str = "") -> bool:
        """Do two names of one level ("country", "region" or "place") mean the same country, region
        or place?

        `country` and `region` are the wider levels that both share, where known. False if either
        name is absent."""
        if is_absent(a) or is_absent(b):
            return False
        if lookup_key(a) == lookup_key(b):
            return True
        found = [self._identity(level, name, country, region) for name in (a, b)]
        return found[0] is not None and found[0] == found[1]

    def _identity(self, level: str, name: str, country: str, region: str) -> str | None:
        if level == "country":
            feature = self._index.country(name)
            return feature and feature.id
        if level not in _FINENESS:
            raise ValueError(f"level must be country, region or place, not {level!r}")
        match = (
            self.geocode(country, name)
            if level == "region"
            else self.geocode(country, region, name)
        )
        return match.id if match and match.level == level else None

    def candidates(self, level: str, name: str, country: str = "", region: str = "") -> list[Match]:
        """Every country, region or place that may bear this very name, likely spellings left out.

        Places lie in the region if one does, else in the country, else they are big towns of other
        countries. A name that is no country's but a region's ("New Mexico") stands at level
        "country" for the regions of that name."""
        if is_absent(name):
            return []
        name = name[:MAX_CHARS]
        if level == "country":
            found = self._index.countries(name) or [
                a for a in self._index.regions(name, "") if a.quality == EXACT
            ]
            return [_match(feature, "country") for feature in found]
        nation = self._index.country(country) if country else None
        code = nation.country if nation else ""
        if level == "region":
            return [
                _match(area, "region")
                for area in self._index.regions(name, code)
                if area.quality <= CORE
            ]
        found = self._index.places(name, code)
        areas = self._index.regions(region, code) if region else ()
        found = [f for f in found if any(_fit(f, area) is not None for area in areas)] or found
        if not found and code:
            found = [
                f
                for f in self._index.places(name, "")
                if f.population >= BIG_TOWN and f.quality == EXACT
            ]
        if not found and not code and (match := self.geocode_text(name)) and match.level == "place":
            return [match]
        return [_match(feature, "place") for feature in found]

    def country_codes(self, country: str) -> frozenset[str]:
        """The ISO 3166-1 codes under which other geocoders may file places of a country: its own,
        its territories' and its mother country's ("United States" and "Puerto Rico" share both).
        Empty for a name that no country has."""
        nation = None if is_absent(country) else self._index.country(country[:MAX_CHARS].strip())
        if nation is None:
            return frozenset()
        mothers = (mother for mother, own in TERRITORIES.items() if nation.country in own)
        return frozenset((nation.country, *TERRITORIES.get(nation.country, ()), *mothers))

    def places(self, country_code: str = "", min_population: int = 0) -> Iterator[Place]:
        """Every place with the names of its country and region, by falling population; a code
        limits the country.
        """
        sql = (
            "SELECT p.name, COALESCE(r.name, ''), c.name, p.country, p.lat, p.lon, p.population FROM place p"
            " JOIN country c ON c.code = p.country LEFT JOIN region r ON r.id = p.region"
            " WHERE p.population >= ? AND (? = '' OR p.country = ?) ORDER BY p.population DESC, p.id"
        )
        for row in self._index.rows(sql, min_population, country_code, country_code):
            yield Place(*row)

    # levels

    def _resolve(self, country: str, region: str, place: str) -> Match | None:
        country, region, place = (
            "" if is_absent(level) else level for level in (country, region, place)
        )
        nation = self._index.country(country) if country else None
        if country and not nation and (areas := self._index.regions(country, "")):
            code = areas[0].country
            areas = (region and self._index.regions(region, code)) or areas
        else:
            code = nation.country if nation else ""
            areas = self._index.regions(region, code) if region else ()
        areas, nation = self._territory(region, areas, nation)
        code = nation.country if nation else code
        found = self._place(place, code, areas) if place else None
        if found:
            return found
        if place and not areas:  # a region's name in the wrong slot
            areas = tuple(area for area in self._index.regions(place, code) if area.quality <= CORE)
        if areas:
            return _match(areas[0], "region")
        return _match(nation, "country") if nation else None

    def _territory(
        self, region: str, areas: tuple[Feature, ...], nation: Feature | None
    ) -> tuple[tuple[Feature, ...], Feature | None]:
        """A region that has a country code of its own ("China; Hong Kong", "US; Puerto Rico")
        becomes the country.
        """
        if nation and region and (not areas or areas[0].quality == TOWN):
            own = self._index.country(region, True)
            if own and own.country in TERRITORIES.get(nation.country, ()):
                return (), own
        return areas, nation

    def _place(self, text: str, country: str, areas: tuple[Feature, ...]) -> Match | None:
        """The place `text` within the areas; of "Notre-Dame, Paris" the last part first, then finer
        ones near it.
        """
        if best := self._best(self._index.places(text, country), areas):
            return best[1]
        if areas and areas[0].quality <= SPELLING and country and areas[0].admin1_id:
            near = self._index.spelt_places(text, country, areas[0].admin1_id)
            if best := self._best(near, areas):
                return best[1]
        found = None
        parts = comma_parts(text)[-MAX_PARTS:]
        for part in reversed(parts if len(parts) > 1 else ()):
            if best := self._best(
                self._index.places(part, country), areas, strict=found is not None
            ):
                feature, found = best
                areas = (_around(feature),)
        return found

    @staticmethod
    def _best(
        candidates: list[Feature], areas: tuple[Feature, ...], strict: bool = False
    ) -> tuple[Feature, Match] | None:
        """The candidate that fits the areas best, then the most populous, with its runner-up."""
        graded = []
        for candidate in candidates:
            grades = [
                (grade, n)
                for n, area in enumerate(areas)
                if (grade := _fit(candidate, area)) is not None
            ]
            if grades and not (strict and min(grades)[0] > 0):
                graded.append((*min(grades), -candidate.weight, candidate.id, candidate))
            elif not areas:
                graded.append((0, 0, -candidate.weight, candidate.id, candidate))
        if not graded:
            return None
        graded.sort(key=lambda row: row[:4])
        best = graded[0][4]
        others = (row[4] for row in graded[1:] if row[0] == graded[0][0])
        distances = (haversine_km(best.lat, best.lon, other.lat, other.lon) for other in others)
        return best, _match(best, "place", next((km for km in distances if km > 1.0), None))

    # free text

    def _resolve_text(self, address: str) -> Match | None:
        if ";" in address or "；" in address:
            return self.geocode(*split_levels(address))
        if self._index.country(address, True):  # "Korea, South" has a comma too
            return self.geocode(address)
        parts = [
            part.strip() for part in address.replace("，", ",").split(",") if not is_absent(part)
        ][-MAX_PARTS:]
        readings = [self.geocode(*levels) for levels in self._readings(parts)]
        found = [match for match in readings if match]
        return max(found, key=lambda match: _FINENESS[match.level], default=None)

    def _readings(self, parts: list[str]) -> Iterator[tuple[str, str, str]]:
        """The ways to read a comma address as levels, likeliest first."""
        if len(parts) < 2:
            yield from self._readings_of_name(parts[0] if parts else "")
            return
        first, last = parts[0], parts[-1]
        if self._index.country(last, True):
            if len(parts) > 2:
                yield last, parts[-2], ", ".join(parts[:-2])
            yield last, "", ", ".join(parts[:-1])
            yield last, ", ".join(parts[:-1]), ""
        elif self._index.country(first, True):
            yield first, parts[1], ", ".join(parts[2:])
            yield first, "", ", ".join(reversed(parts[1:]))
        yield "", last, ", ".join(parts[:-1])
        if not self._index.country(last, True):
            yield "", "", ", ".join(parts)

    def _readings_of_name(self, name: str) -> Iterator[tuple[str, str, str]]:
        """A name alone is a country if it can be; else the region, unless a town is at least a
        tenth as populous.
        """
        if self._index.country(name, True):
            yield name, "", ""
            return
        regions = [area.population for area in self._index.regions(name, "") if not area.district]
        towns = [town.population for town in self._index.places(name, "")]
        if towns and max(towns) * 10 >= max(regions, default=0):
            yield "", "", name
        else:
            yield "", name, ""
            yield name, "", ""


def _fit(place: Feature, area: Feature) -> int | None:
    """How well a place fits a region: the lower the better, None if they contradict each other.

    0: in it (for a district or town: near its centre). 1: in the same admin1. 2: just outside. 3:
    elsewhere in the country, where the region's own match is weak (a likely spelling, or a small
    town of that name)."""
    if place.country != area.country:
        return None
    inside = place.admin1_id == area.admin1_id
    whole = area.radius_km != TOWN_RADIUS_KM and not area.district
    if whole and inside:
        return 0
    near = haversine_km(place.lat, place.lon, area.lat, area.lon) <= area.radius_km + NEAR_KM
    if not whole and (near or inside):
        return 0 if near else 1
    if near:
        return 2
    weak = area.quality == SPELLING or (area.quality == TOWN and area.population < BIG_TOWN)
    return 3 if weak else None


def _around(feature: Feature) -> Feature:
    """A place as an area, for the finer parts of an address that lie in it."""
    return replace(feature, radius_km=TOWN_RADIUS_KM, quality=EXACT)


def _match(
    feature: Feature,
    level: Literal["place", "region", "country"],
    runner_up_km: float | None = None,
) -> Match:
    return Match(
        lat=feature.lat, lon=feature.lon, level=level, name=feature.name, admin1=feature.admin1,
        country_code=feature.country, population=feature.population, runner_up_km=runner_up_km, id=feature.id,
    )  # fmt: skip
