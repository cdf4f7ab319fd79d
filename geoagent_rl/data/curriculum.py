"""In which order a run takes its photographs: shuffled, in stages from easy to hard, or mixed by
domain.

The i-th prompt depends on the manifest, the seed, the curriculum and, where that follows the
rewards so far, on what the run has recorded (data/earned.py), so a resumed run goes on exactly
where it stopped. Every order repeats no photograph of a domain before that domain's epoch is over.
Pure."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from geoagent_rl.config.sections import CurriculumConfig
from geoagent_rl.data.earned import BY_REWARD
from geoagent_rl.data.sample import Sample
from geoagent_rl.types import Prompt, UserError

# ease by uid, as it is known whenever the prompt of this number is asked for
EaseAt = Callable[[int], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt and what a curriculum may look at. `ease`: None where nothing says it."""

    prompt: Prompt
    domain: str = ""
    ease: float | None = None  # higher is easier


def rated(samples: Sequence[Sample], by: str) -> list[Item]:
    """Return the samples as a curriculum sees them before any reward. by: curriculum.by."""
    sign = -1.0 if by == "difficulty" else 1.0

    def ease(sample: Sample) -> float | None:
        found = getattr(sample, by) if by and by not in BY_REWARD else None
        return None if found is None else sign * found

    return [
        Item(sample.prompt(), sample.domain or sample.source, ease(sample)) for sample in samples
    ]


class PromptOrder:
    """The i-th prompt of a run, and where in its curriculum that is."""

    def __init__(
        self,
        items: Sequence[Item],
        seed: int,
        curriculum: CurriculumConfig | None = None,
        ease_at: EaseAt | None = None,
    ) -> None:
        """ease_at: in place of the items' own ease, where the order follows the rewards so far.

        Raises UserError for no items, a domain of the mix that no photograph has, and for stages
        where nothing says how easy a photograph is."""
        if not items:
            raise UserError("the training manifest has no usable sample")
        self.curriculum = plan = curriculum or CurriculumConfig()
        if plan.stages > 1 and ease_at is None and all(item.ease is None for item in items):
            raise UserError(
                "curriculum.stages needs a column that says how easy each photograph is: see curriculum.by"
            )
        self.turn = one_round(plan.mix) if plan.mix else [""]
        self.domains = {
            domain: Domain(own, f"prompts/{seed}/{domain}".rstrip("/"), plan.stages, ease_at)
            for domain, own in by_domain(items, plan.mix).items()
        }

    def __call__(self, i: int) -> Prompt:
        """Return the i-th prompt, from 0."""
        domain, k = self.place(i)
        return self.domains[domain].prompt(k, partial(self.number, domain))

    def place(self, i: int) -> tuple[str, int]:
        """Return the domain of the i-th prompt, and which one of that domain it is, from 0."""
        rounds, at = divmod(i, len(self.turn))
        domain = self.turn[at]
        return domain, rounds * self.turn.count(domain) + self.turn[:at].count(domain)

    def number(self, domain: str, k: int) -> int:
        """Return which prompt of the run is the domain's k-th: the inverse of `place`."""
        rounds, nth = divmod(k, self.turn.count(domain))
        places = [at for at, name in enumerate(self.turn) if name == domain]
        return rounds * len(self.turn) + places[nth]

    def reported(self, numbers: range) -> dict[str, float]:
        """Return the metrics of a step that has taken the prompts of these numbers; none without a
        curriculum."""
        plan, epochs, stages, taken = self.curriculum, list[int](), list[int](), list[str]()
        if not numbers or (plan.stages == 1 and not plan.mix):
            return {}
        for domain, k in map(self.place, numbers):
            size = len(self.domains[domain].items)
            epoch, at = divmod(k, size)
            epochs.append(1 + epoch)
            stages.append(1 + at * plan.stages // size)
            taken.append(domain)
        shares = {f"domain_share_{as_key(d)}": taken.count(d) / len(taken) for d in plan.mix}
        return {"curriculum_epoch": fmean(epochs), "curriculum_stage": fmean(stages)} | shares


def by_domain(items: Sequence[Item], mix: Iterable[str]) -> dict[str, Sequence[Item]]:
    """Return the photographs of each domain of the mix, all as one ("") without a mix."""
    found: dict[str, Sequence[Item]] = {
        domain: [item for item in items if item.domain == domain] for domain in mix
    }
    for domain, own in found.items():
        if not own:
            known = ", ".join(sorted({item.domain for item in items} - {""})) or "none"
            raise UserError(f"curriculum.mix: no photograph is of {domain!r}; there are: {known}")
    return found or {"": items}


class Domain:
    """The photographs of one domain, epoch after epoch, each a permutation of its own."""

    def __init__(
        self, items: Sequence[Item], seed: str, stages: int, ease_at: EaseAt | None
    ) -> None:
        self.items, self.seed, self.stages, self.ease_at = items, seed, stages, ease_at
        self.epoch, self.order = -1, list[Item]()  # the newest alone

    def prompt(self, k: int, number: Callable[[int], int]) -> Prompt:
        """Return the domain's k-th prompt. number: of the run, by that of the domain."""
        epoch, place = divmod(k, len(self.items))
        if epoch != self.epoch:
            items = self.items
            if self.ease_at is not None:
                ease = self.ease_at(number(epoch * len(items)))
                items = [replace(item, ease=ease.get(item.prompt.uid)) for item in items]
            self.order = shuffled(items, random.Random(f"{self.seed}/{epoch}"), self.stages)
            self.epoch = epoch
        return self.order[place].prompt


def shuffled(items: Sequence[Item], rng: random.Random, stages: int) -> list[Item]:
    """Return a permutation, within `stages` equal parts, easy ones first and unrated ones last."""
    order = list(items)
    rng.shuffle(order)
    if stages == 1:
        return order
    rank = {id(item): place for place, item in enumerate(sorted(order, key=hardness))}
    return sorted(order, key=lambda item: rank[id(item)] * stages // len(items))


def hardness(item: Item) -> tuple[bool, float]:
    """Return what samples are sorted by: easiest first, unknown last."""
    return (item.ease is None, -(item.ease or 0.0))


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


def as_key(domain: str) -> str:
    """Return a domain's name as part of a metric's.

    >>> as_key("street view")
    'street_view'
    """
    return re.sub(r"\W", "_", domain, flags=re.ASCII)
