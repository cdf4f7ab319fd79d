"""Look-ups of single names in the packed gazetteer: what features bear this name? Decides nothing
between levels.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from geoagent_rl.geo.gazetteer_countries import MAX_PARTS, Countries, Vague
from geoagent_rl.geo.places import comma_parts, core_key, lookup_key, plain_key, undouble

T = TypeVar("T")
EXACT, CORE, SPELLING, TOWN = (
    0,
    1,
    2,
    3,
)  # how a name was matched: TOWN is a town named where a region was asked for
# share of equal characters that makes one region's name a spelling of another in its country
LIKELY = 0.83
LIKELY_PLACE = 0.9  # the same for places of a region, of which there are many more
TOWN_RADIUS_KM = 25.0
BIG_TOWN = (
    100_000  # a town named as the region is believed against the place only if it is this populous
)
OTHER_NAME = 0.1  # what a town counts under a name that is not its usual one
LANDMARK = 30_000  # a landmark counts as much as a town of so many people
CORE_RANK, TRANSLATED_RANK, WIDER_RANK = 3, 2, 1  # of gazetteer_regions
DIRECTIONS = frozenset(
    "north south east west central northern southern eastern western upper lower new greater".split()
)

_PLACE = (
    "SELECT p.id, p.name, p.country, p.region, COALESCE(r.name, ''), p.lat, p.lon, p.population, n.main FROM"
    " place_name n JOIN place p ON p.id = n.place LEFT JOIN region r ON r.id = p.region WHERE "
)
_REGION = (
    "SELECT r.id, r.code, r.name, r.country, COALESCE(r.parent, r.id), COALESCE(a.name, r.name), r.lat, r.lon,"
    " r.population, r.radius_km, r.level, n.rank FROM region_name n JOIN region r ON r.id = n.region"
    " LEFT JOIN region a ON a.id = r.parent WHERE "
)


@dataclass(frozen=True, slots=True)
class Feature:
    """A country, region or place of the gazetteer. `admin1_id` is internal; `id` is
    "place:<GeoNames id>" and so on.
    """

    id: str
    level: str  # "country", "region" or "place"
    name: str
    country: str
    admin1_id: int | None
    admin1: str
    lat: float
    lon: float
    population: int
    radius_km: float = 0.0
    quality: int = EXACT
    weight: float = (
        0.0  # population, less where the name is not the usual one: orders features of one name
    )
    district: bool = False  # a region below admin1
    loose: bool = False  # a guess at the region: it does not rule out a big town elsewhere
    shared: bool = False  # a district whose name others have: nor does it, if none of them has one


class Index:
    """Read-only names of one SQLite file. Safe to share between threads."""

    def __init__(self, path: Path):
        self._db = sqlite3.connect(
            f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        self._db.execute("PRAGMA cache_size=-24000")
        self._lock = threading.Lock()
        self._countries = {
            row[0]: row for row in self.rows("SELECT code, name, lat, lon, population FROM country")
        }
        names = {code: row[1] for code, row in self._countries.items()}
        self._names = Countries(self.rows, names)
        self.regions = lru_cache(16_384)(self._regions)
        self._spellings = lru_cache(None)(self._usual_region_names)

    def rows(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Return the rows that a statement finds."""
        with self._lock:
            return self._db.execute(sql, args).fetchall()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # countries

    def country(self, text: str, exact: bool = False) -> Feature | None:
        """Return the country of that name or code, in any language; unless `exact`, also with slips
        of spelling.
        """
        code, slip = (self._names.exact(text), False) if exact else self._names.find(text)
        if not code:
            return None
        feature = self.country_feature(code)
        return replace(feature, quality=SPELLING) if slip else feature

    def countries(self, text: str) -> list[Feature]:
        """Return every country that bears the name in some language ("Congo" has two), most usual
        first; no slips."""
        return [self.country_feature(code) for code in self._names.bearers(text)]

    def vague(self, text: str) -> Vague | None:
        """Return the countries that a continent or a former union of states covers."""
        return self._names.vague(text)

    def country_feature(self, code: str) -> Feature:
        """Return the country of an ISO 3166-1 code."""
        _, name, lat, lon, population = self._countries[code]
        return Feature(
            f"country:{code}",
            "country",
            name,
            code,
            None,
            "",
            lat,
            lon,
            population,
            weight=population,
        )

    # regions

    def admin1_names(self, country: str, codes: str) -> frozenset[str]:
        """Return the names of the first-level regions with these GeoNames codes ("11 20"); of "-",
        which stands for none, "".
        """
        sql = "SELECT name, code FROM region WHERE country = ? AND level = 1"
        wanted = {f"{country}.{code}" for code in codes.split()}
        names = [name for name, code in self.rows(sql, country) if code in wanted]
        return frozenset([*names, *([""] if "-" in codes else [])])

    def _regions(self, text: str, country: str) -> tuple[Feature, ...]:
        """Regions that `text` may mean, best first. country "" searches the world.

        "MN, Saint Louis County" is the county within the state. Where no region bears the name: a
        likely spelling of one, then a territory that ISO 3166-2 lists under the country ("China;
        Hong Kong"), then a town of that name."""
        key = lookup_key(text)
        found = self._named_regions(key, country)
        parts = comma_parts(text)[:MAX_PARTS]
        if not found and len(parts) > 1:
            found = self._nested_regions(parts, country)
        if not found and country and len(key) > 3:
            found = self._spelt_regions(key, country)
        if not found and country and (town := self.towns(text, country)):
            best = max(town, key=lambda feature: feature.weight)
            loose = best.population < BIG_TOWN
            found = (
                replace(best, level="region", quality=TOWN, radius_km=TOWN_RADIUS_KM, loose=loose),
            )
        return found

    def _named_regions(self, key: str, country: str) -> tuple[Feature, ...]:
        where, args = ("n.key = ? AND n.country = ?", (country,)) if country else ("n.key = ?", ())
        forms = (key, plain_key(key), core_key(plain_key(key)), undouble(core_key(key)))
        for form in dict.fromkeys(forms):
            rows = self.rows(_REGION + where, form, *args) if form else []
            if (
                not country and len(form) < 3 and form.isascii()
            ):  # "Paris, TX", but not every ISO code of the world
                rows = [row for row in rows if row[3] in ("US", "CA")]
            if rows:
                # an area of several regions ("Java") before a district that only shares its core
                rows.sort(key=lambda row: (row[11] == CORE_RANK, row[10], row[11], -row[8]))
                best = rows[0][11]
                if best < TRANSLATED_RANK:
                    # a region's usual name is not some other region's name in a foreign language
                    rows = [row for row in rows if row[11] != TRANSLATED_RANK]
                if best == WIDER_RANK:
                    rows = [row for row in rows if row[11] == WIDER_RANK]
                found = tuple(self._region(row, form == key) for row in rows)
                bearers = [area for area, row in zip(found, rows, strict=True) if row[11] == best]
                several = len({area.admin1_id for area in bearers}) > 1
                if several and all(area.district for area in bearers):
                    found = tuple(replace(area, shared=True) for area in found)
                return found
        return ()

    @staticmethod
    def _region(row: tuple[Any, ...], same: bool, quality: int | None = None) -> Feature:
        """Return the region of a row. `same`: the name was asked for as it stands, not a part of
        it."""
        _, code, name, country, admin1_id, admin1, lat, lon, population, radius, level, rank = row
        if quality is None:
            usual = same and rank in (0, TRANSLATED_RANK)
            quality = EXACT if usual else CORE
        where = (admin1_id, admin1, lat, lon, population)
        loose = quality == SPELLING or (quality == CORE and level == 2)
        return Feature(
            f"region:{code}", "region", name, country, *where, radius, quality, population, level == 2, loose
        )  # fmt: skip

    def _nested_regions(self, parts: list[str], country: str) -> tuple[Feature, ...]:
        """Return, of the parts of one level, the widest that is a region, made narrower by the
        others where they lie in it."""
        known = [(part, self._named_regions(lookup_key(part), country)) for part in parts]
        wide = min(
            (f for _, f in known if f), key=lambda f: (f[0].district, f[0].quality), default=()
        )
        if not wide:
            return ()
        for part, features in known:
            inner = [
                f
                for f in features
                if f.district and f.admin1_id == wide[0].admin1_id and f.id != wide[0].id
            ]
            if inner:
                return tuple(replace(area, shared=False) for area in inner)
            if not features:
                inner = [
                    f for f in self.towns(part, wide[0].country) if f.admin1_id == wide[0].admin1_id
                ]
                if inner:
                    best = max(inner, key=lambda feature: feature.weight)
                    return (replace(best, level="region", radius_km=TOWN_RADIUS_KM),)
        return wide

    def _spelt_regions(self, key: str, country: str) -> tuple[Feature, ...]:
        """Return the region that is likely spelt so, else all that hold the same words
        ("Kanta-Häme" and "Päijät-Häme" for "Häme").
        """
        core = undouble(core_key(key))
        spellings = self._spellings(country)
        same_side = [pair for pair in spellings if _directions(pair[0]) == _directions(core)]
        best = max(_alike(core, same_side, LIKELY), default=(0.0, 0))
        found = [best[1]] if best[0] else []
        if not found:
            shared = [(_shared_words(core, name), region) for name, region in spellings]
            found = [region for share, region in sorted(shared, reverse=True) if share]
        rows = [self.rows(_REGION + "n.region = ? LIMIT 1", one)[0] for one in dict.fromkeys(found)]
        return tuple(self._region(row, False, SPELLING) for row in rows)

    def _usual_region_names(self, country: str) -> list[tuple[str, int]]:
        """(core of a usual name, made single; region id) of the admin1 regions of a country."""
        rows = self.rows(
            "SELECT n.key, n.region FROM region_name n JOIN region r ON r.id = n.region"
            " WHERE n.country = ? AND n.rank = 0 AND r.level = 1",
            country,
        )
        return [(undouble(core_key(key)), region) for key, region in rows if len(key) > 3]

    # places

    def towns(self, text: str, country: str) -> list[Feature]:
        """Return places of exactly that name, in the country or ("") anywhere."""
        return self._towns_of_key(lookup_key(text), country, EXACT)

    def places(self, text: str, country: str) -> list[Feature]:
        """Return places that `text` may name: of that name, else of its core ("Aomori Shi"), else
        of that district's name."""
        key = lookup_key(text)
        if found := self._towns_of_key(key, country, EXACT):
            return found
        plain = plain_key(key)
        for form in dict.fromkeys(
            (plain, core_key(plain), undouble(plain), undouble(core_key(plain)))
        ):
            if form != key and (found := self._towns_of_key(form, country, CORE)):
                return found
        return [replace(f, level="place") for f in self._named_regions(key, country) if f.district]

    def spelt_places(self, text: str, country: str, admin1_id: int) -> list[Feature]:
        """Return places of an admin1 region whose name begins alike and is likely a spelling of
        `text`."""
        key = core_key(plain_key(lookup_key(text)))
        if len(key) < 5:
            return []
        where = "n.key >= ? AND n.key < ? AND n.country = ? AND p.region = ?"
        start = key[:3]
        sql = _PLACE.replace("p.id,", "n.key, p.id,", 1) + where
        rows = self.rows(sql, start, start + "\uffff", country, admin1_id)
        return [
            self._place(row[1:], SPELLING)
            for _, row in _alike(key, ((row[0], row) for row in rows), LIKELY_PLACE)
        ]

    def _towns_of_key(self, key: str, country: str, quality: int) -> list[Feature]:
        if not key:
            return []
        where, args = (
            ("n.key = ? AND n.country = ?", (key, country)) if country else ("n.key = ?", (key,))
        )
        return [self._place(row, quality) for row in self.rows(_PLACE + where, *args)]

    @staticmethod
    def _place(row: tuple[Any, ...], quality: int) -> Feature:
        number, name, country, admin1_id, admin1, lat, lon, population, main = row
        weight = (population + 1) * (1.0 if main else OTHER_NAME) if number > 0 else LANDMARK
        where = (admin1_id, admin1, lat, lon, population)
        return Feature(f"place:{number}", "place", name, country, *where, 0.0, quality, weight)


def _directions(name: str) -> frozenset[str]:
    return DIRECTIONS.intersection(name.split())


def _shared_words(a: str, b: str) -> float:
    """Share of words in common where one name holds all of the other's ("Häme", "Kanta-Häme"), else
    0.
    """
    first, second = set(a.split()), set(b.split())
    common = first & second
    if common not in (first, second) or all(len(word) < 4 or word in DIRECTIONS for word in common):
        return 0.0
    return len(common) / len(first | second)


def _alike(key: str, named: Iterable[tuple[str, T]], floor: float) -> Iterator[tuple[float, T]]:
    """(share of equal characters, item) of the named items at or above `floor`; the cheap bounds
    come first.
    """
    matcher = SequenceMatcher(None, "", key, autojunk=False)
    for name, item in named:
        matcher.set_seq1(name)
        if (
            matcher.real_quick_ratio() >= floor
            and matcher.quick_ratio() >= floor
            and matcher.ratio() >= floor
        ):
            yield matcher.ratio(), item
