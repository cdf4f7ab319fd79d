"""Chain-of-thought texts for street scenes: what an annotator believes about a picture, written out
in three stages.

A Reading is an annotator's belief (right or wrong); `write` turns it into the project's output
format, with reasoning that entails each stage's conclusion. Annotator describes how people err:
some go for the best known region or the bigger town and then "see" the clues that fit (confirmation
bias), some misread, some leave a level open. Every text is a concatenation of `phrases()`, which
become single tokens of the tiny policy. May know nothing of models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from geoagent_rl.tiny.scene_world import (
    COUNTRIES,
    COUNTRY_CUES,
    PLACE_CUES,
    REGION_CUES,
    Place,
    Scene,
    metropolis,
    places,
    region_places,
)

UNKNOWN = "unknown"
STAGES = ("CountryIdentification", "RegionalGuess", "PreciseLocalization")
OPEN = '<think>{"ChainOfThought": {"CountryIdentification": {"Clues": ["'
REASONING, CONCLUSION, UNCERTAINTY = (
    '"], "Reasoning": "',
    '", "Conclusion": "',
    '", "Uncertainty": "',
)
NEXT = ('"}, "RegionalGuess": {"Clues": ["', '"}, "PreciseLocalization": {"Clues": ["')
ANSWER, CLOSE = '"}}}</think><answer>', "</answer>"
CLUE_JOIN, LEVEL_JOIN, CAPTION_JOIN, CAPTION_END = '", "', "; ", ", ", ". Place: "
LEVELS_OF_DOUBT = ("Low", "Medium", "High")
# What a cue's value is called; the same words in clue lists, captions and reasoning.
WORDS: dict[str, dict[str, str]] = {
    "side": {"left": "traffic on the left", "right": "traffic on the right"},
    "plate": {
        "white": "white number plates",
        "yellow": "yellow number plates",
        "banded": "blue-banded plates",
    },
    "script": {
        "latin": "Latin lettering",
        "kana": "Japanese lettering",
        "hangul": "Hangul lettering",
        "devanagari": "Devanagari lettering",
        "greek": "Greek lettering",
        "cyrillic": "Cyrillic lettering",
    },
    "sign": {
        "diamond": "yellow diamond signs",
        "disc": "blue round signs",
        "triangle": "red and white triangles",
        "yellow_triangle": "red and yellow triangles",
    },
    "line": {
        "white": "a dashed white line",
        "yellow": "a dashed yellow line",
        "double": "a double yellow line",
    },
    "pole": {
        "wooden": "wooden poles",
        "concrete": "concrete poles",
        "steel": "steel lamp posts",
        "bollard": "roadside bollards",
    },
    "plant": {
        "cherry": "cherry blossom",
        "pine": "dark pines",
        "palm": "palm trees",
        "gum": "pale gum trees",
        "acacia": "flat acacias",
        "broadleaf": "round broadleaf trees",
        "birch": "white birches",
        "agave": "spiky agaves",
    },
    "soil": {
        "grass": "green verges",
        "red": "red soil",
        "sand": "sandy ground",
        "dark": "dark soil",
    },
    "front": {
        "neon": "neon shop fronts",
        "awning": "striped awnings",
        "veranda": "shop verandas",
        "shutters": "blue shutters",
        "brick": "brick shop fronts",
    },
    "light": {"grey": "a grey sky", "hazy": "a hazy yellow sky", "blue": "a deep blue sky"},
    "terrain": {
        "sea": "the open sea",
        "mountains": "snowy mountains",
        "fields": "striped farm fields",
        "forest": "dense forest",
        "desert": "bare red mesas",
    },
    "roof": {
        "tiles": "red tiled roofs",
        "slate": "dark slate roofs",
        "tin": "blue tin roofs",
        "flat": "flat white roofs",
    },
    "landmark": {
        "church": "a pointed church tower",
        "dome": "a golden dome",
        "bridge": "a red suspension bridge",
        "skyscraper": "a pair of glass towers",
        "lighthouse": "a striped lighthouse",
        "wheel": "a ferris wheel",
        "castle": "an old stone castle",
        "clock": "a tall clock tower",
    },
    "bus": {
        "red": "red buses",
        "green": "green buses",
        "blue": "blue buses",
        "yellow": "yellow buses",
    },
}
NOTHING: tuple[str, ...] = (
    "nothing distinctive",
    "an ordinary street",
    "a veiled horizon",
    "the lie of the land",
)
NOTHING += (
    "no clear landmark",
    "the look of the streets",
)  # stand-ins for missing clues, two for each stage
# Reasoning by stage; slots: {a} {b} (clues), {up} (the earlier conclusion), {name} (the
# conclusion), {other} (a rival). The first four of a stage are full arguments (about 180-240
# characters), the rest short ones (about 95-140).
TEMPLATES: tuple[tuple[str, ...], ...] = (
    (
        "The picture shows {a} and, further along, {b}. Few road networks combine the two, and the whole look of the "
        "street supports the same reading, so the country is most likely {name}, where both are everyday sights.",
        "Starting from {a}, I checked the rest of the street: {b} agrees with it, while neighbouring states do such "
        "things differently. Taken together the clues leave a single good candidate, and that country is {name}.",
        "At first sight this might be {other}, but {a} speaks against that. Together with {b} it is what one meets on "
        "the ordinary streets of one country in particular, and so I settle on {name} here.",
        "Two things stand out, {a} and {b}. Drivers who know both countries would at once name {name} rather than "
        "{other}, because the furniture of the road hardly ever looks like this anywhere else.",
        "I notice {a} as well as {b}, which is the usual sight on roads in {name} and rarer elsewhere.",
        "With {a} and {b} in plain view, the obvious country to name for this street is {name}.",
    ),
    (
        "Within {up} the background decides the matter: {a} can be made out, and {b} goes well with it. The other "
        "regions of the country offer a different view from their roads, which leaves {name} as the region.",
        "Looking past the road I find {a}, and nearer to it {b}. Among the regions of {up} this is the setting that "
        "people describe again and again when they come back from one of them, namely from {name}.",
        "One could think of {other}, another part of {up}, but the view there would be different. Here {a} and {b} "
        "belong to the same landscape, so the evidence in the picture is in favour of {name}.",
        "The setting is given away by {a}, and {b} does not contradict it. In {up} that points to {name} much more "
        "than to {other}, whose roads lead through quite another kind of country.",
        "The background with {a} and {b} is what I would expect in {up} if the region is {name}.",
        "Because of {a}, and perhaps {b}, my choice among the regions of {up} is {name}.",
    ),
    (
        "What remains is the town. Behind the houses stands {a}, and {b} can be noticed as well; travellers remember "
        "exactly these two from one town of {up}, so the picture was in all likelihood taken in {name}.",
        "For the exact spot I rely on {a}, which is the emblem of a single town in {up}. The impression is completed "
        "by {b}, so I am ready to put the camera on a street of {name}.",
        "A visitor to {up} might first say {other}, yet {a} would be out of place there. Seen together with {b} it "
        "belongs to the other well known town of the region, which is {name}.",
        "The skyline has {a}, and down in the street there is {b}. Both are to be found in {name} and not in {other}, "
        "although the two towns are in {up} and their streets are much alike.",
        "There is {a} together with {b}, so of the towns in {up} I would pick {name}.",
        "The town in {up} that is known for {a}, and for {b}, must be {name} I think.",
    ),
)
OPEN_ENDED = (
    "I see {a} and {b}, but they occur in so many countries of the world that nothing decides between them.",
    "I see {a} and {b}, but several regions of {up} would show the same, and nothing decides between them.",
    "I see {a} and {b}, but several towns of {up} would show the same, and nothing decides between them.",
)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a reading. `argued` is what the reasoning supports: `conclusion`, unless the
    annotator slipped.
    """

    clues: tuple[str, ...]
    conclusion: str
    doubt: str
    argued: str
    rival: str


@dataclass(frozen=True, slots=True)
class Annotator:
    """How an annotator errs; each figure is a probability.

    metropolis: goes for the country's best known region and town when the scene shows another
    region, and lists the clues one would see there. bigger: the same for the bigger town of the
    right region. misread: takes one region or place clue for another and concludes accordingly.
    hedge: leaves (region, place) open as "unknown". slip: argues for a rival and then writes down
    the conclusion (per stage). short: writes a short argument (per stage)."""

    metropolis: float = 0.0
    bigger: float = 0.0
    misread: float = 0.0
    hedge: tuple[float, float] = (0.0, 0.0)
    slip: float = 0.0
    short: float = 0.0


def read_scene(
    scene: Scene, habits: Annotator, rng: np.random.Generator
) -> tuple[Stage, Stage, Stage]:
    """Return what an annotator with these habits believes about the scene."""
    truth = scene.place
    believed = _believed(truth, habits, rng)
    seen = [value for cue, value in _words(scene, truth, COUNTRY_CUES)]
    keep = sorted(rng.choice(len(seen), size=min(3, len(seen)), replace=False)) if seen else []
    lists = [tuple(seen[k] for k in keep)]
    lists += [
        tuple(v for _, v in _words(scene, believed, cues)) for cues in (REGION_CUES, PLACE_CUES)
    ]
    names = list(believed.levels)
    open_region = rng.random() < habits.hedge[0]
    open_place = open_region or rng.random() < habits.hedge[1]
    names[1:] = [UNKNOWN if open_region else names[1], UNKNOWN if open_place else names[2]]
    stages: list[Stage] = []
    for level, (name, clues) in enumerate(zip(names, lists, strict=True)):
        rival = _rival(level, believed, rng)
        argued = rival if name != UNKNOWN and rng.random() < habits.slip else name
        if argued != name:
            rival = name
        doubt = "High" if name == UNKNOWN else LEVELS_OF_DOUBT[0 if len(clues) > 1 else 1]
        clues = clues or (NOTHING[2 * level],)
        stages.append(Stage(clues, name, doubt, argued, rival))
    country, region, place = stages
    return country, region, place


def _words(scene: Scene, place: Place, cues: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the cues visible in `scene`, with the words that would describe them in `place`."""
    return [(cue, WORDS[cue][place.cue(cue)]) for cue in cues if cue in scene.visible]


def _believed(truth: Place, habits: Annotator, rng: np.random.Generator) -> Place:
    """Return the known place whose cues the annotator believes to see (for a hidden place: its own,
    unless biased).
    """
    draws = rng.random(3)
    best = metropolis(truth.country)
    if truth.region != best.region and draws[0] < habits.metropolis:
        return best
    siblings = region_places(truth.country, truth.region)
    if draws[1] < habits.bigger:
        return siblings[0]
    if draws[2] < habits.misread:
        pool = [p for p in places() if p.country == truth.country and p != truth]
        return pool[int(rng.integers(len(pool)))]
    return truth


def _rival(level: int, place: Place, rng: np.random.Generator) -> str:
    """Return another name of the same level and the same parent."""
    if level == 0:
        pool = [name for name in COUNTRIES if name != place.country]
    elif level == 1:
        pool = sorted({p.region for p in places() if p.country == place.country} - {place.region})
    else:
        pool = [p.name for p in region_places(place.country, place.region) if p.name != place.name]
    return pool[int(rng.integers(len(pool)))]


def argue(level: int, stage: Stage, earlier: str, short: bool, rng: np.random.Generator) -> str:
    """Return the reasoning of one stage. `earlier` is the conclusion of the stage before ("" for
    the first).
    """
    a = stage.clues[0]
    b = (
        stage.clues[int(rng.integers(1, len(stage.clues)))]
        if len(stage.clues) > 1
        else NOTHING[2 * level + 1]
    )
    full = TEMPLATES[level][:4]
    pool = (
        (OPEN_ENDED[level],) if stage.argued == UNKNOWN else TEMPLATES[level][4:] if short else full
    )
    template = pool[int(rng.integers(len(pool)))]
    return template.format(a=a, b=b, up=earlier, name=stage.argued, other=stage.rival)


def write(stages: tuple[Stage, ...], rng: np.random.Generator, short: float = 0.0) -> list[str]:
    """Return the three stages and the answer as texts whose concatenation is a valid completion
    (without end token).

    `short` is the probability of a short argument, drawn for each stage.
    """
    parts: list[str] = []
    earlier = ""
    for level, stage in enumerate(stages):
        reasoning = argue(level, stage, earlier, rng.random() < short, rng)
        head = OPEN if level == 0 else NEXT[level - 1]
        middle = (
            f"{CLUE_JOIN.join(stage.clues)}{REASONING}{reasoning}{CONCLUSION}{stage.conclusion}"
        )
        parts.append(f"{head}{middle}{UNCERTAINTY}{stage.doubt}")
        earlier = stage.conclusion if stage.conclusion != UNKNOWN else earlier
    parts.append(f"{ANSWER}{LEVEL_JOIN.join(s.conclusion for s in stages)}{CLOSE}")
    return parts


def cot(scene: Scene, habits: Annotator, rng: np.random.Generator) -> str:
    """Return one complete training text for a scene."""
    return "".join(write(read_scene(scene, habits, rng), rng, habits.short))


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return up to five of the country's visible cues, those of region and place, and where the
    scene is."""
    seen = [word for _, word in _words(scene, scene.place, COUNTRY_CUES)]
    keep = sorted(rng.choice(len(seen), size=min(5, len(seen)), replace=False))
    seen = [seen[k] for k in keep] + [
        word for _, word in _words(scene, scene.place, REGION_CUES + PLACE_CUES)
    ]
    return CAPTION_JOIN.join(seen) + CAPTION_END + LEVEL_JOIN.join(scene.place.levels)


def hedges() -> tuple[str, ...]:
    """Return the phrases that occur only where an annotator leaves a level open (for the control
    that bans them).
    """
    slots = dict.fromkeys(("a", "b", "up"), "\0")
    fixed = {
        piece
        for text in OPEN_ENDED
        for piece in text.format(**slots).split("\0")
        if "nothing" in piece
    }
    return (UNKNOWN, LEVELS_OF_DOUBT[2], *sorted(fixed))


@cache
def phrases() -> tuple[str, ...]:
    """Return every phrase that texts are made of, each once, in a fixed order; "" and duplicates
    left out."""
    found = [OPEN, REASONING, CONCLUSION, UNCERTAINTY, *NEXT, ANSWER, CLOSE]
    found += [CLUE_JOIN, LEVEL_JOIN, CAPTION_JOIN, CAPTION_END, UNKNOWN, *LEVELS_OF_DOUBT, *NOTHING]
    found += [word for values in WORDS.values() for word in values.values()]
    for place in places():
        found += place.levels
    slots = dict.fromkeys(("a", "b", "up", "name", "other"), "\0")
    for template in (*TEMPLATES[0], *TEMPLATES[1], *TEMPLATES[2], *OPEN_ENDED):
        found += template.format(**slots).split("\0")
    return tuple(dict.fromkeys(text for text in found if text))
