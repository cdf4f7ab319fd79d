"""What follows the step, and the order of the photographs, in a run that is stopped and goes on."""

from __future__ import annotations

import dataclasses

from geoagent_rl import driver
from geoagent_rl.config import load
from geoagent_rl.config.schedule import at_version
from geoagent_rl.config.sections import CurriculumConfig
from geoagent_rl.data.curriculum import Item, prompt_order
from tests.support.driver_fakes import FakeEngine, FakeLearner, FakeScorer, prompt_at


async def test_curriculum_and_schedule_go_on_where_they_were():
    """Prompts, and rewards that depend on a number that follows the step, are value for value those
    of the run that was not stopped, whichever step it was cut at.
    """
    pool = [Item(prompt_at(i), ("street", "map")[i % 3 == 0], float(i)) for i in range(12)]
    order = prompt_order(pool, 7, CurriculumConfig(stages=2, mix={"street": 2, "map": 1}))
    falls = "{of: spatial.tau_km, kind: geometric, start: 400, end: 100, steps: 5}"
    sizes = ["rollout.prompts_per_step=4", "rollout.group_size=4", "steps=5"]
    config = load(None, ["data.manifest=x", *sizes, f"reward.schedules=[{falls}]"])

    class Falling(FakeScorer):
        async def score(self, prompt, rollout):
            found = await super().score(prompt, rollout)
            scale = at_version(config.reward, rollout.version).spatial.tau_km
            return dataclasses.replace(found, total=found.total * scale)

    async def steps(first):
        """What is learnt from `first` on, by an engine and a learner that have done the others."""
        engine, learner = FakeEngine(), FakeLearner()
        engine.version = learner.number = first

        async def on_step(step, metrics, groups):
            pass

        await driver.train(config, order, [engine], Falling(), learner, on_step, first)
        return [
            (n, g.prompt.uid, [s.total for s in g.samples], g.advantages) for n, g in learner.groups
        ]

    whole = await steps(0)
    assert len({total for _, _, totals, _ in whole for total in totals}) == 80
    for cut in range(1, 5):
        assert await steps(cut) == whole[4 * cut :]
