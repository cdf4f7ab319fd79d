"""From the three levels of an address to a Match: which reading of its names holds together?

Country goes before region, region before population. Where that fails, the country may be meant
otherwise (a namesake, a state whose territory it is, an area that two states claim); where the
region is a guess, a town that is far more populous elsewhere in the country wins."""

from __future__ import annotations

from dataclasses import replace

from geoagent_rl.geo.absent import is_absent, is_scenery
from geoagent_rl.geo.country_names import DISPUTED, TERRITORIES
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer_countries import MAX_PARTS
from geoagent_rl.geo.gazetteer_index import (
    BIG_TOWN,
    CORE,
    EXACT,
    SPELLING,
    TOWN,
    TOWN_RADIUS_KM,
    Feature,
    Index,
)
from geoagent_rl.geo.match import Match, match_of
from geoagent_rl.geo.places import comma_parts

# a place this far outside the region named is still taken to be meant (Berlin in "Brandenburg")
NEAR_KM = 25.0
CLOSE_KM = 300.0  # a place filed under a territory lies this near the region named with its state
DOMINANT = 20.0  # where the region is a guess: so many times as populous as its namesake in it
Areas = tuple[Feature, ...]  # regions that a place may lie in, best first
Codes = frozenset[str] | None  # of countries that come into question; None: all
FINENESS = {"place": 3, "region": 2, "country": 1}


class Resolver:
    """Stateless but for the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def resolve(self, country: str, region: str, place: str) -> Match | None:
        """Return the finest level that can be placed without contradicting a wider one, else
        None."""
        country, region, place = (
            "" if is_absent(level) else level for level in (country, region, place)
        )
        nation = self._index.country(country) if country else None
        if nation is None or self._is_continent(country, region, nation):
            return self._without_country(country, region, place)
        found = self._within(nation, region, place)
        asked = 3 if place else 2 if region else 1
        if found and FINENESS[found.level] >= asked:
            return found
        return self._elsewhere(nation, country, region, place, found) or found

    def _is_continent(self, country: str, region: str, nation: Feature) -> bool:
        """ "America; Brazil; ...": a name of both, and the level below names a country of it."""
        vague = self._index.vague(country)
        inner = self._index.country(region, True) if vague and region else None
        if vague is None or inner is None:
            return False
        return inner.country != nation.country and inner.country in vague.codes

    def _within(self, nation: Feature, region: str, place: str) -> Match | None:
        """Return the finest level in the country named."""
        areas = self._index.regions(region, nation.country) if region else ()
        areas, nation = self._territory(region, areas, nation)
        return self._in_areas(nation.country, areas, place) or match_of(nation, "country")

    def _in_areas(self, code: str, areas: Areas, place: str, among: Codes = None) -> Match | None:
        """Return the place in the areas, else the first area; `among` limits the countries where
        `code` is "".
        """
        found = self._place(place, code, areas, among) if place else None
        if found:
            return found
        if place and not areas:  # a region's name in the wrong slot
            areas = tuple(
                area
                for area in self._index.regions(place, code)
                if area.quality <= CORE and _is_among(area, among)
            )
        if not areas or areas[0].shared:  # a county's name that several states have: none of them
            return None
        return match_of(areas[0], "region")

    def _without_country(self, country: str, region: str, place: str) -> Match | None:
        """Where the country is absent, unknown, the name of a region, or wider than a country."""
        country, region, place = (
            "" if is_scenery(level) else level for level in (country, region, place)
        )
        vague = self._index.vague(country) if country else None
        among = vague.codes if vague else None
        if vague and (nation := self._index.country(region, True)):
            known = nation.country in vague.codes
            return self.resolve(nation.name, "", place) if known else None
        listed = [part for part in comma_parts(country) if self._index.countries(part)]
        if country and not vague and not listed and (areas := self._index.regions(country, "")):
            return self._in_region(areas, region, place)
        areas = self._index.regions(region, "") if region else ()
        areas = tuple(area for area in areas if _is_among(area, among))
        return self._in_areas("", areas, place, among)

    def _in_region(self, wide: Areas, region: str, place: str) -> Match | None:
        """Return the finest level where a region stands for the country: in the first country that
        has such a region ("Patagonia" is in two), else where region and place alone are
        ("Kurdistan; Erbil; Erbil"), else the region itself.
        """
        asked = 3 if place else 2 if region else 1
        found = None
        for code in dict.fromkeys(area.country for area in wide):
            inner = self._index.regions(region, code) if region else ()
            own = tuple(area for area in wide if area.country == code)
            match = self._in_areas(code, inner or own, place)
            if match and FINENESS[match.level] >= asked:
                return match
            found = found or match
        areas = self._index.regions(region, "") if region and place else ()
        areas = tuple(area for area in areas if area.quality == EXACT and not area.district)
        match = self._in_areas("", areas, place) if areas else None
        return match if match and match.level == "place" else found

    def _elsewhere(
        self, nation: Feature, country: str, region: str, place: str, found: Match | None
    ) -> Match | None:
        """Return a finer match where the country may be meant otherwise: the second country of that
        name ("Congo"), its territories, areas that it claims or holds, a region of that name
        (Georgia). None: there is none.
        """
        nothing = found is None or found.level == "country"
        others = self._index.countries(country)[1:] if nothing else ()
        for other in others:
            match = self._within(other, region, place)
            if match and match.level != "country":
                return match
        for code in TERRITORIES.get(nation.country, ()):
            if (match := self._filed_under(code, region, place)) and (
                nothing or found is None or _km(match, found) <= CLOSE_KM
            ):
                return match
        for state, code, areas in DISPUTED:
            if state == nation.country and (match := self._filed_under(code, region, place)):
                if areas == "*" or match.admin1 in self._index.admin1_names(code, areas):
                    return match
        return self._namesake_region(nation, country, region, place) if nothing else None

    def _filed_under(self, code: str, region: str, place: str) -> Match | None:
        """Return a place, or a region if none is named, that GeoNames has under another country's
        code.
        """
        areas = self._index.regions(region, code) if region else ()
        areas = tuple(area for area in areas if not area.loose)
        match = self._in_areas(code, areas, place)
        return match if match and (match.level == "place" or not place) else None

    def _namesake_region(
        self, nation: Feature, country: str, region: str, place: str
    ) -> Match | None:
        """Return a place of the region called like a country: "Georgia; Fulton County; Atlanta"."""
        areas = tuple(
            area
            for area in self._index.regions(country, "")
            if area.quality == EXACT and not area.district and area.country != nation.country
        )
        for area in areas:
            for name in filter(None, (place, region)):
                match = self._place(name, area.country, (area,))
                if match and match.admin1 == area.admin1 and match.population >= BIG_TOWN:
                    return match
        return None

    def _territory(self, region: str, areas: Areas, nation: Feature) -> tuple[Areas, Feature]:
        """Return a region that has a country code of its own ("China; Hong Kong", "US; Puerto
        Rico") becomes the country.
        """
        if region and (not areas or areas[0].quality == TOWN or areas[0].loose):
            own = self._index.country(region, True)
            if own and own.country in TERRITORIES.get(nation.country, ()):
                return (), own
        return areas, nation

    def _place(self, text: str, country: str, areas: Areas, among: Codes = None) -> Match | None:
        """Return the place `text` within the areas; of "Notre-Dame, Paris" the last part first,
        then finer ones near it.
        """
        if best := self._best(self._index.places(text, country), areas, among=among):
            return best[1]
        if areas and areas[0].quality <= SPELLING and country and areas[0].admin1_id:
            near = self._index.spelt_places(text, country, areas[0].admin1_id)
            if best := self._best(near, areas):
                return best[1]
        found = None
        parts = comma_parts(text)[-MAX_PARTS:]
        for part in reversed(parts if len(parts) > 1 else ()):
            candidates = self._index.places(part, country)
            if best := self._best(candidates, areas, strict=found is not None, among=among):
                feature, found = best
                areas = (_around(feature),)
        return found

    @staticmethod
    def _best(
        candidates: list[Feature], areas: Areas, strict: bool = False, among: Codes = None
    ) -> tuple[Feature, Match] | None:
        """Return the candidate that fits the areas best, then the most populous, with its
        runner-up.
        """
        graded = []
        for candidate in candidates:
            if not _is_among(candidate, among):
                continue
            grades = [
                (grade, area.district, area.quality, n)
                for n, area in enumerate(areas)
                if (grade := fit(candidate, area)) is not None
            ]
            if grades and not (strict and min(grades)[0] > 0):
                grade, district, quality, n = min(grades)
                order = (grade, district, quality, -candidate.weight, n, candidate.id)
                graded.append((order, candidate))
            elif not areas:
                graded.append(((0, False, 0, -candidate.weight, 0, candidate.id), candidate))
        if not graded:
            return None
        graded.sort(key=lambda row: row[0])
        best, grade = graded[0][1], graded[0][0][0]
        biggest = max((row[1] for row in graded), key=lambda feature: feature.weight)
        if all(area.loose for area in areas) and biggest.weight > DOMINANT * best.weight:
            best, grade = biggest, 0
        others = (one for order, one in graded if one is not best and order[0] == grade)
        distances = (haversine_km(best.lat, best.lon, other.lat, other.lon) for other in others)
        return best, match_of(best, "place", next((km for km in distances if km > 1.0), None))


def fit(place: Feature, area: Feature) -> int | None:
    """Return how well a place fits a region: the lower the better, None if they contradict each
    other.

    0: in it (for a district or town: near its centre). 1: in the same admin1. 2: just outside. 3:
    elsewhere in the country, where the region's own match is weak (a likely spelling, or a small
    town of that name), or a big town where several districts have that name."""
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
    return 3 if area.loose or (area.shared and place.population >= BIG_TOWN) else None


def _is_among(feature: Feature, codes: Codes) -> bool:
    return codes is None or feature.country in codes


def _km(a: Match, b: Match) -> float:
    return float(haversine_km(a.lat, a.lon, b.lat, b.lon))


def _around(feature: Feature) -> Feature:
    """Return a place as an area, for the finer parts of an address that lie in it."""
    return replace(feature, radius_km=TOWN_RADIUS_KM, quality=EXACT)
