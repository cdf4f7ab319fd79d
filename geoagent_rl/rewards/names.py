"""How alike two names of one level are: the gazetteer first, the encoder for what it leaves open.

Names first (`reward.semantic.names_first`): what the gazetteer resolves to one place is 1, in
whatever language; two places that it knows apart are 0, because encoders take New Mexico for Mexico
and Niger for Nigeria; the encoder scores the rest (names unknown to the gazetteer, places close
together). Off is the paper's form, the encoder alone. May know nothing of caches or services."""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.geo.compare import compare
from geoagent_rl.geo.folding import normalise
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.gazetteer_index import BIG_TOWN
from geoagent_rl.geo.places import GENERIC
from geoagent_rl.rewards.encoder import Encoder
from geoagent_rl.rewards.services import LEVELS, LevelPair, Similarity

STEM = 0.7  # of a word's letters, at least 4, make a form of it: "Bavaria", "Bavarian"
EMPTY_WORDS = frozenset("a an in some near somewhere typical small large place location".split())


def similarities(
    gazetteer: Gazetteer, encoder: Encoder, pairs: Sequence[LevelPair], names_first: bool = True
) -> list[Similarity]:
    """Return one similarity in [0, 1] per pair, with who decided it. The encoder sees all that is
    left to it at once."""
    known = [_known(gazetteer, pair) if names_first else None for pair in pairs]
    left = iter(
        encoder.similarities(
            [(p.a, p.b) for p, same in zip(pairs, known, strict=True) if same is None]
        )
    )
    return [
        Similarity(next(left), "encoder") if same is None else Similarity(float(same), "gazetteer")
        for same in known
    ]


def _known(gazetteer: Gazetteer, pair: LevelPair) -> bool | None:
    """Say whether both names are right for one place; None where the encoder must judge."""
    same = compare(gazetteer, pair.level, pair.a, pair.b, *pair.within)
    if same is None:
        return False if says_wider_again(gazetteer, pair) else None
    return same or claimed(gazetteer, pair)


def claimed(gazetteer: Gazetteer, pair: LevelPair) -> bool:
    """Say whether the country `pair.a` claims or holds what is below `pair.b`: the Crimea is right
    under either state that labels name.
    """
    if not any(pair.below):
        return False
    own = gazetteer.geocode(pair.a)
    region, place = (*pair.below, "", "")[:2]
    if own is None or own.level != "country":
        return False
    return own.country_code in gazetteer.filed_under(pair.b, region, place)


def says_wider_again(gazetteer: Gazetteer, pair: LevelPair) -> bool:
    """Say whether `pair.a` only repeats a wider level, as "Bavaria", "Bayern" or "a Bavarian town"
    do in the place's slot. A repetition is not a name of the level, however alike an encoder finds
    them.

    The wider levels are the true ones: where the answer has others, its gate is closed anyway."""
    for n, wider in enumerate(pair.within):
        level, context = LEVELS[n], pair.within[:n]
        if gazetteer.same_place(level, pair.b, wider, *context):
            return False  # the truth does so too: "Berlin; Berlin"
        if gazetteer.same_place(level, pair.a, wider, *context) or _only_about(pair.a, wider):
            return True
    return False


def _only_about(name: str, wider: str) -> bool:
    """Is every word of `name` one of `wider`, a form of one, or a word that names nothing?"""
    stems = [word[: max(4, round(STEM * len(word)))] for word in normalise(wider).split()]
    rest = [word for word in normalise(name).split() if not word.startswith(tuple(stems))]
    return len(rest) < len(normalise(name).split()) and all(
        word in GENERIC or word in EMPTY_WORDS for word in rest
    )


def same_place(gazetteer: Gazetteer, pairs: Sequence[LevelPair]) -> list[bool]:
    """Say of each pair whether both names mean one place, by the gazetteer alone; no where the
    second does not hold together with the wider names.
    """
    return [
        gazetteer.same_place(pair.level, pair.a, pair.b, *pair.within)
        and not (repeats(gazetteer, pair) or contradicts(gazetteer, pair))
        for pair in pairs
    ]


def repeats(gazetteer: Gazetteer, pair: LevelPair) -> bool:
    """Say whether `pair.b` only says a wider level again, as "Germany" does for a region; in
    "Singapore; Singapore" it does not, for there is a town of that name.
    """
    again = any(
        gazetteer.same_place(LEVELS[n], pair.b, wider, *pair.within[:n])
        or _only_about(pair.b, wider)
        for n, wider in enumerate(pair.within)
        if wider
    )
    return again and not gazetteer.bears(pair.level, pair.b, pair.within)


def contradicts(gazetteer: Gazetteer, pair: LevelPair) -> bool:
    """Say whether `pair.b` is a region or town that is well known, and outside the wider levels
    ("Berlin" in Bavaria)."""
    if not any(pair.within):
        return False
    country, region, place = (*pair.within, pair.b, "", "")[:3]
    inside = gazetteer.geocode(country, region, place)
    if inside is None or inside.level == pair.level:
        return False
    alone = ("", pair.b, "") if pair.level == "region" else ("", "", pair.b)
    other = gazetteer.geocode(*alone)
    return other is not None and other.level == pair.level and other.population >= BIG_TOWN
