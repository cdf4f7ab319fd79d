"""The offline geocoder: an address of up to three levels -> coordinates and the level that was
matched.

Country goes before admin1, admin1 before population: a place that lies in another country, or far
from the region that the address names, never wins; the answer is then the region or the country,
and `Match.level` says so.
Data: GeoNames (CC BY 4.0), packed once per machine by gazetteer_build. May know nothing of services
or caches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from geoagent_rl.geo.absent import is_absent
from geoagent_rl.geo.country_names import CITY_STATES, DISPUTED, TERRITORIES
from geoagent_rl.geo.gazetteer_countries import MAX_PARTS
from geoagent_rl.geo.gazetteer_file import ensure
from geoagent_rl.geo.gazetteer_index import (
    BIG_TOWN,
    CORE,
    EXACT,
    SPELLING,
    Index,
)
from geoagent_rl.geo.gazetteer_resolve import FINENESS, Resolver, fit
from geoagent_rl.geo.match import Match, Place, match_of
from geoagent_rl.geo.places import comma_parts, lookup_key, split_levels

MAX_CHARS = 300  # of a level that are read
CACHED_ADDRESSES = 65_536


class Gazetteer:
    """Answers from one read-only SQLite file; keeps the last 65,536 addresses in memory. Threads
    may share it.
    """

    def __init__(self, path: Path):
        self._index = Index(path)
        self._cached = lru_cache(CACHED_ADDRESSES)(Resolver(self._index).resolve)
        self._cached_text = lru_cache(CACHED_ADDRESSES)(self._resolve_text)

    @classmethod
    def open(cls, cache_dir: str | os.PathLike[str] | None = None) -> Gazetteer:
        """Open the packed gazetteer of this machine, building it first (half a minute) if it is not
        there.

        It lies in `cache_dir`, else $GEOAGENT_CACHE, else the user's cache directory. Raises
        InfraError if it cannot be written, or if another process holds the lock for more than 10
        minutes."""
        return cls(ensure(cache_dir))

    def close(self) -> None:
        """Close the database."""
        self._index.close()

    def geocode(self, country: str, region: str = "", place: str = "") -> Match | None:
        """Return the finest level that can be placed without contradicting a wider one; None if no
        level can be.

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
            return feature.id if feature else None
        if level not in FINENESS:
            raise ValueError(f"level must be country, region or place, not {level!r}")
        if level == "region" and self._is_wide(name, country):
            return None
        match = (
            self.geocode(country, name)
            if level == "region"
            else self.geocode(country, region, name)
        )
        return match.id if match and match.level == level else None

    def _is_wide(self, name: str, country: str) -> bool:
        """Is it an area of several regions ("Pacific Northwest"), which is none of them?"""
        nation = self._index.country(country) if country else None
        areas = self._index.regions(name[:MAX_CHARS], nation.country if nation else "")
        first = [area for area in areas if area.quality == CORE and not area.district]
        return len(first) > 1 and areas[0].quality == CORE

    def candidates(self, level: str, name: str, country: str = "", region: str = "") -> list[Match]:
        """Return every country, region or place that may bear this very name, likely spellings left
        out.

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
            return [match_of(feature, "country") for feature in found]
        nation = self._index.country(country) if country else None
        code = nation.country if nation else ""
        if level == "region":
            return [
                match_of(area, "region")
                for area in self._index.regions(name, code)
                if area.quality <= CORE
            ]
        found = self._index.places(name, code)
        areas = self._index.regions(region, code) if region else ()
        found = [f for f in found if any(fit(f, area) is not None for area in areas)] or found
        if not found and code:
            found = [
                f
                for f in self._index.places(name, "")
                if f.population >= BIG_TOWN and f.quality == EXACT
            ]
        if not found and not code and (match := self.geocode_text(name)) and match.level == "place":
            return [match]
        return [match_of(feature, "place") for feature in found]

    def admin1_of(self, name: str, country: str, districts: bool) -> frozenset[tuple[str, str]]:
        """Return (country code, name) of the first-level regions that bear a name or, with
        `districts`, of those in which a district or town of that name lies. Districts less than
        half as wide as another of that name are passed over: King County is in Washington, though
        Texas has one."""
        nation = self._index.country(country) if country else None
        areas = self._index.regions(name[:MAX_CHARS], nation.country if nation else "")
        areas = tuple(area for area in areas if area.quality != SPELLING)
        if not districts:
            areas = tuple(area for area in areas if area.name == area.admin1)
        elif any(area.name == area.admin1 for area in areas):
            return frozenset()
        widest = max((area.radius_km for area in areas), default=0.0)
        return frozenset(
            (area.country, area.admin1) for area in areas if area.radius_km >= widest / 2
        )

    def bears(self, level: str, name: str, within: Sequence[str]) -> bool:
        """Say whether a region or place of that very name is in the country that `within` begins
        with: "Berlin" is a region and a town of Germany, "Germany" neither.
        """
        nation = self._index.country(within[0]) if within and within[0] else None
        look_up = self._index.regions if level == "region" else self._index.places
        code = nation.country if nation else ""
        return any(f.quality == EXACT for f in look_up(name[:MAX_CHARS], code))

    def is_continent(self, name: str) -> bool:
        """Say whether it is the name of a continent, or of another area of the world that is no
        country."""
        if self._index.country(name[:MAX_CHARS], True):
            return False
        vague = self._index.vague(name[:MAX_CHARS])
        return vague is not None and vague.kind == "continent"

    def is_territory(self, name: str, country: str) -> bool:
        """Say whether `name` is a territory of `country`, or a territory or city state that is
        `country` itself ("Hong Kong; Hong Kong; Kowloon")."""
        own = self._index.country(name[:MAX_CHARS], True)
        nation = self._index.country(country[:MAX_CHARS]) if country else None
        if own is None or nation is None:
            return False
        if own.country == nation.country:
            small = own.country in CITY_STATES
            return small or any(own.country in codes for codes in TERRITORIES.values())
        return own.country in TERRITORIES.get(nation.country, ())

    def country_codes(self, country: str) -> frozenset[str]:
        """Return the ISO 3166-1 codes under which other geocoders may file places of a country: its
        own, its territories' and its mother country's ("United States" and "Puerto Rico" share
        both). Empty for a name that no country has.
        """
        nation = None if is_absent(country) else self._index.country(country[:MAX_CHARS].strip())
        if nation is None:
            return frozenset()
        mothers = (mother for mother, own in TERRITORIES.items() if nation.country in own)
        return frozenset((nation.country, *TERRITORIES.get(nation.country, ()), *mothers))

    def filed_under(self, country: str, region: str, place: str) -> frozenset[str]:
        """Return the ISO 3166-1 codes under which other geocoders may file an address: those of its
        country, of the country in which it is found here ("Georgia; Fulton County"), and of states
        that claim or hold that area. Empty where no country is named.
        """
        codes, match = self.country_codes(country), self.geocode(country, region, place)
        if not codes or match is None:
            return codes
        claimants = (
            state
            for state, code, areas in DISPUTED
            if code == match.country_code
            and (areas == "*" or match.admin1 in self._index.admin1_names(code, areas))
        )
        return codes | {match.country_code, *claimants}

    def places(self, country_code: str = "", min_population: int = 0) -> Iterator[Place]:
        """Yield every place with the names of its country and region, by falling population; a code
        limits the country."""
        sql = (
            "SELECT p.name, COALESCE(r.name, ''), c.name, p.country, p.lat, p.lon, p.population FROM place p"
            " JOIN country c ON c.code = p.country LEFT JOIN region r ON r.id = p.region"
            " WHERE p.id > 0 AND p.population >= ? AND (? = '' OR p.country = ?) ORDER BY p.population DESC, p.id"
        )
        for row in self._index.rows(sql, min_population, country_code, country_code):
            yield Place(*row)

    # free text

    def _resolve_text(self, address: str) -> Match | None:
        if ";" in address or "；" in address:
            return self.geocode(*split_levels(address))
        if self._index.country(address, True):  # "Korea, South" has a comma too
            return self.geocode(address)
        parts = comma_parts(address)[-MAX_PARTS:]
        readings = [self.geocode(*levels) for levels in self._readings(parts)]
        found = [match for match in readings if match]
        return max(found, key=lambda match: FINENESS[match.level], default=None)

    def _readings(self, parts: list[str]) -> Iterator[tuple[str, str, str]]:
        """Yield the ways to read a comma address as levels, likeliest first."""
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
        """Yield the readings of a name alone: a country if it can be; else the region, unless a
        town is at least a tenth as populous."""
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
            yield from self._readings_of_words(name.split()[-MAX_PARTS:])

    def _readings_of_words(self, words: list[str]) -> Iterator[tuple[str, str, str]]:
        """ "Brussels Belgium": a country before or behind the rest, with nothing between them."""
        for cut in range(1, len(words)):
            head, tail = " ".join(words[:cut]), " ".join(words[cut:])
            for country, rest in ((tail, head), (head, tail)):
                if len(country) > 3 and self._index.country(country, True):
                    yield country, "", rest
