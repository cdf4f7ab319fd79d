"""In which order a run takes its photographs: shuffled, in stages from easy to hard, or mixed by
domain.

The i-th prompt depends on the manifest, the seed and the curriculum alone, so a resumed run goes on
exactly where it stopped and no state is kept. Every order repeats no photograph of a domain before
that domain's epoch is over. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from geoagent_rl.config.sections import CurriculumConfig
from geoagent_rl.data.sample import Sample
from geoagent_rl.types import Prompt, UserError


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt and what a curriculum may look at. `ease`: None where the manifest does not say."""

    prompt: Prompt
    domain: str = ""
    ease: float | None = None  # higher is easier


def rated(samples: Sequence[Sample], by: str) -> list[Item]:
    """Return the samples as a curriculum sees them. by: the column that says how easy each is."""
    sign = -1.0 if by == "difficulty" else 1.0

    def ease(sample: Sample) -> float | None:
        found = getattr(sample, by) if by else None
        return None if found is None else sign * found

    return [
        Item(sample.prompt(), sample.domain or sample.source, ease(sample)) for sample in samples
    ]


def prompt_order(
    items: Sequence[Item], seed: int, curriculum: CurriculumConfig | None = None
) -> Callable[[int], Prompt]:
    """Return the function that gives a run's i-th prompt.

    Raises UserError for no items, a domain of the mix that no photograph has, and for stages where
    no photograph says how easy it is.
    """
    if not items:
        raise UserError("the training manifest has no usable sample")
    curriculum = curriculum or CurriculumConfig()
    if curriculum.stages > 1 and all(item.ease is None for item in items):
        raise UserError(
            "curriculum.stages needs a column that says how easy each photograph is: see curriculum.by"
        )
    if not curriculum.mix:
        return one_after_the_other(items, f"prompts/{seed}", curriculum.stages)
    return mixed(items, seed, curriculum)


def one_after_the_other(items: Sequence[Item], seed: str, stages: int) -> Callable[[int], Prompt]:
    """Return epoch after epoch of `items`, each a permutation of its own."""
    epochs: dict[int, list[Item]] = {}  # the newest alone

    def at(i: int) -> Prompt:
        epoch, position = divmod(i, len(items))
        if epoch not in epochs:
            epochs.clear()
            epochs[epoch] = shuffled(items, random.Random(f"{seed}/{epoch}"), stages)
        return epochs[epoch][position].prompt

    return at


def shuffled(items: Sequence[Item], rng: random.Random, stages: int) -> list[Item]:
    """Return a permutation, within `stages` equal parts, easy ones first and unrated ones last."""
    order = list(items)
    rng.shuffle(order)
    if stages == 1:
        return order
    rank = {id(item): place for place, item in enumerate(sorted(items, key=hardness))}
    return sorted(order, key=lambda item: rank[id(item)] * stages // len(items))


def hardness(item: Item) -> tuple[bool, float]:
    """Return what samples are sorted by: easiest first, unknown last."""
    return (item.ease is None, -(item.ease or 0.0))


def mixed(
    items: Sequence[Item], seed: int, curriculum: CurriculumConfig
) -> Callable[[int], Prompt]:
    """Return rounds in which each domain has its share, spread evenly; each has its own epochs."""
    orders = {}
    for domain in curriculum.mix:
        own = [item for item in items if item.domain == domain]
        if not own:
            known = ", ".join(sorted({item.domain for item in items} - {""})) or "none"
            raise UserError(f"curriculum.mix: no photograph is of {domain!r}; there are: {known}")
        orders[domain] = one_after_the_other(own, f"prompts/{seed}/{domain}", curriculum.stages)
    turn = one_round(curriculum.mix)
    before = [turn[:place].count(domain) for place, domain in enumerate(turn)]

    def at(i: int) -> Prompt:
        rounds, place = divmod(i, len(turn))
        domain = turn[place]
        return orders[domain](rounds * turn.count(domain) + before[place])

    return at


def one_round(mix: Mapping[str, int]) -> list[str]:
    """Return the domains of one round, each as often as `mix` says and as evenly as can be.

    >>> one_round({"street": 3, "map": 1})
    ['street', 'street', 'map', 'street']
    """
    total = sum(mix.values())
    credit = dict.fromkeys(mix, 0)
    turn = []
    for _ in range(total):
        for domain, share in mix.items():
            credit[domain] += share
        chosen = max(credit, key=lambda domain: credit[domain])
        credit[chosen] -= total
        turn.append(chosen)
    return turn
