"""Evaluation and validation beside training, on fakes: what a broken photograph and dead machinery
lead to.
"""

import math

import pytest
from fakes import FakeEngine, FakeScorer, prompt_at

from geoagent_rl.data.images import BadImage
from geoagent_rl.evaluation.run import locate_all, validate
from geoagent_rl.types import InfraError

PROMPTS = [prompt_at(i) for i in range(4)]


class Picky(FakeEngine):
    """Some photographs cannot be decoded."""

    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    async def generate(self, prompt, n, seed, **sampling):
        if prompt.uid in self.broken:
            raise BadImage(f"{prompt.image} is damaged", "unreadable")
        async for rollout in super().generate(prompt, n, seed):
            yield rollout

    async def swap(self, version):
        return 0.0


async def test_a_photograph_that_cannot_be_decoded_is_left_out_and_the_others_count_as_without_it():
    with_it = await locate_all(PROMPTS, [Picky({"p1"})], FakeScorer(), 0.0, seed=0)
    without = await locate_all(PROMPTS, [Picky(())], FakeScorer(), 0.0, seed=0)
    assert [s and s.total for s in with_it] == [
        without[0].total,
        None,
        without[2].total,
        without[3].total,
    ]
    mean = await validate(PROMPTS, [Picky({"p1"})], FakeScorer(), 0.0, seed=0)
    assert mean == pytest.approx(sum(s.total for s in with_it if s) / 3)
    assert math.isnan(
        await validate(PROMPTS, [Picky({p.uid for p in PROMPTS})], FakeScorer(), 0.0, seed=0)
    )


async def test_dead_machinery_is_one_clear_error():
    """The run saves on the way out and says why; a TaskGroup would wrap it in an ExceptionGroup and
    a stack trace.
    """

    class Dead(Picky):
        async def generate(self, prompt, n, seed, **sampling):
            raise InfraError("engine died")
            yield

    with pytest.raises(InfraError, match="no engine completed it in 3 attempts"):
        await validate(PROMPTS, [Dead(())], FakeScorer(), 0.0, seed=0)
