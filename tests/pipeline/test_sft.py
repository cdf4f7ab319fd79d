"""Step II on a fake learner: every demonstration once per epoch, seeded order, exact
continuation.
"""

import pytest

from geoagent_rl.answers.forms import read
from geoagent_rl.answers.parse import Stage, render
from geoagent_rl.data.demonstrations import demonstrations
from geoagent_rl.data.sample import Sample
from geoagent_rl.sft import Demonstration, cold_start, sft_batches, sft_steps
from geoagent_rl.types import PolicyVersion, UserError

DEMONSTRATIONS = [Demonstration(str(i), f"{i}.png", "text") for i in range(10)]


class FakeLearner:
    def __init__(self):
        self.pending, self.batches = [], []

    async def accumulate_sft(self, demonstrations):
        self.pending += [d.uid for d in demonstrations]

    async def step(self):
        self.batches.append(self.pending)
        self.pending = []
        return PolicyVersion(len(self.batches), "checkpoint", ""), {"loss": 1.0}


async def test_each_epoch_shows_everything_once_in_another_order():
    learner, seen = FakeLearner(), []
    await cold_start(learner, DEMONSTRATIONS, 2, 4, seed=0, on_step=lambda *row: seen.append(row))
    assert [len(b) for b in learner.batches] == [4, 4, 2, 4, 4, 2]
    first, second = sum(learner.batches[:3], []), sum(learner.batches[3:], [])
    assert (
        sorted(first) == sorted(second) == sorted(d.uid for d in DEMONSTRATIONS) and first != second
    )
    assert [(step, steps) for step, steps, _ in seen] == [
        (i + 1, 6) for i in range(6)
    ] and sft_steps(10, 2, 4) == 6


async def test_continues_where_it_stopped():
    learner = FakeLearner()
    await cold_start(learner, DEMONSTRATIONS, 2, 4, seed=0, on_step=lambda *_: None, first_step=4)
    assert learner.batches == [[d.uid for d in b] for b in sft_batches(DEMONSTRATIONS, 2, 4, 0)][4:]


async def test_no_reasoning_texts_is_one_clear_error():
    with pytest.raises(UserError, match="cot"):
        await cold_start(FakeLearner(), [], 1, 4, 0, lambda *_: None)


def test_chains_are_shown_in_the_form_of_the_answer():
    levels = ("Germany", "Bavaria", "Munich")
    stages = [Stage(("a clue",), f"It is {level}.", level, "Low") for level in levels]
    chain = render(stages, levels)
    own = "<think>hm</think><answer>1.5, 2.5</answer>"
    samples = [
        Sample(uid, f"{uid}.jpg", "Germany", "Bavaria", "Garching", 48.25, 11.65, text)
        for uid, text in (("chain", chain), ("own", own), ("none", ""), ("rubbish", "Munich"))
    ]
    shown = {d.uid: d.text for d in demonstrations(samples, "lat_lon")}
    # where its own answer lies, not where the photograph was taken
    assert read(shown["chain"], "lat_lon").point == pytest.approx((48.137, 11.575), abs=0.02)
    assert shown["own"] == own and shown.keys() == {"chain", "own"}
    assert [d.text for d in demonstrations(samples, "levels")] == [chain, own, "Munich"]
    assert [d.uid for d in demonstrations(samples, "country_region")] == ["chain"]
