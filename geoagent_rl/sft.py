"""Step II, the cold start: supervised learning of whole answers, on the same learner as GRPO.

The loss is the mean over the batch's completion tokens (the end token included) of -log p; prompt
and image tokens do not count. Written against a protocol, so it runs on Ray actors and on fakes.
May know nothing of Ray or DeepSpeed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from geoagent_rl.types import PolicyVersion, UserError


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One photograph (a path) with the complete answer the policy should give, in the format of
    answers/parse.py.
    """

    uid: str
    image: str
    text: str


class SftLearner(Protocol):
    """See actors.learner_group.LearnerGroup."""

    async def accumulate_sft(self, demonstrations: Sequence[Demonstration]) -> None:
        """Add the gradients of these demonstrations."""

    async def step(self) -> tuple[PolicyVersion, dict[str, float]]:
        """Update the policy; return the new version and the step's metrics."""
        ...


OnStep = Callable[[int, int, dict[str, Any]], None]  # step (from 1), number of steps, metrics


def sft_steps(samples: int, epochs: int, batch_size: int) -> int:
    """Return the optimizer steps of a whole cold start; an epoch's last batch may be smaller."""
    return epochs * math.ceil(samples / batch_size)


def sft_batches(
    demonstrations: Sequence[Demonstration], epochs: int, batch_size: int, seed: int
) -> Iterator[list[Demonstration]]:
    """Yield every demonstration once in each epoch, in an order that depends on seed and epoch
    only."""
    for epoch in range(epochs):
        order = list(demonstrations)
        random.Random(f"sft/{seed}/{epoch}").shuffle(order)
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]


async def cold_start(
    learner: SftLearner,
    demonstrations: Sequence[Demonstration],
    epochs: int,
    batch_size: int,
    seed: int,
    on_step: OnStep,
    first_step: int = 0,
) -> None:
    """Run steps first_step .. sft_steps(...) - 1 (the learner holds the state after `first_step`
    steps).
    """
    if not demonstrations:
        raise UserError(
            "no sample has a reasoning text (cot): give sft.manifest a manifest with the column cot"
        )
    steps = sft_steps(len(demonstrations), epochs, batch_size)
    for step, batch in enumerate(sft_batches(demonstrations, epochs, batch_size, seed)):
        if step < first_step:
            continue
        await learner.accumulate_sft(batch)
        _, metrics = await learner.step()
        on_step(step + 1, steps, {"step": step + 1, **metrics})
