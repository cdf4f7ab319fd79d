"""How alike two names of one level are: the gazetteer first, the encoder for what it leaves open.

Names first (`reward.semantic.names_first`): what the gazetteer resolves to one place is 1, in
whatever language; two places that it knows apart are 0, because encoders take New Mexico for Mexico
and Niger for Nigeria; the encoder scores the rest (names unknown to the gazetteer, places close
together). Off is the paper's form, the encoder alone. May know nothing of caches or services."""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.geo.compare import compare
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.rewards.encoder import Encoder
from geoagent_rl.rewards.services import LevelPair, Similarity


def similarities(
    gazetteer: Gazetteer, encoder: Encoder, pairs: Sequence[LevelPair], names_first: bool = True
) -> list[Similarity]:
    """One similarity in [0, 1] per pair, with who decided it. The encoder sees all that is left to
    it at once.
    """
    known = [
        compare(gazetteer, p.level, p.a, p.b, *p.within) if names_first else None for p in pairs
    ]
    left = iter(
        encoder.similarities(
            [(p.a, p.b) for p, same in zip(pairs, known, strict=True) if same is None]
        )
    )
    return [
        Similarity(next(left), "encoder") if same is None else Similarity(float(same), "gazetteer")
        for same in known
    ]


def same_place(gazetteer: Gazetteer, pairs: Sequence[LevelPair]) -> list[bool]:
    return [gazetteer.same_place(pair.level, pair.a, pair.b, *pair.within) for pair in pairs]
