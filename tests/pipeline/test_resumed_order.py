"""What follows the step, and the order of the photographs, in a run that is stopped and goes on."""

from __future__ import annotations

import dataclasses
import shutil
from statistics import fmean

import pytest

from geoagent_rl import driver
from geoagent_rl.config import load
from geoagent_rl.config.schedule import at_version
from geoagent_rl.config.sections import CurriculumConfig
from geoagent_rl.data.curriculum import Item, PromptOrder
from geoagent_rl.data.earned import Earned
from geoagent_rl.run.directory import RunDir
from tests.support.driver_fakes import FakeEngine, FakeLearner, FakeScorer, prompt_at


async def test_curriculum_and_schedule_go_on_where_they_were():
    """Prompts, and rewards that depend on a number that follows the step, are value for value those
    of the run that was not stopped, whichever step it was cut at.
    """
    pool = [Item(prompt_at(i), ("street", "map")[i % 3 == 0], float(i)) for i in range(12)]
    order = PromptOrder(pool, 7, CurriculumConfig(stages=2, mix={"street": 2, "map": 1}))
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


@pytest.mark.parametrize(
    "words",
    [
        ["curriculum.by=reward_mean"],
        ["curriculum.by=reward_std", "max_staleness=1"],
        ["curriculum.by=reward_mean", "curriculum.mix={street: 2, map: 1}"],
        ["curriculum.by=reward_mean", "rollout.dynamic_sampling=true", "rollout.max_refills=3"],
    ],
)
async def test_an_order_by_the_rewards_so_far_goes_on_where_it_was(tmp_path, words):
    """Whichever step the run is cut at, what is left is made again of the records."""
    pool = [Item(prompt_at(i), ("street", "map")[i % 3 == 0]) for i in range(9)]
    sizes = ["rollout.prompts_per_step=3", "rollout.group_size=4", "steps=9"]
    sizes.append("reward.max_unscorable_share=1")
    config = load(None, ["data.manifest=x", *sizes, "curriculum.stages=2", *words])

    async def rest(run, first):
        """Do the steps from `first` on, recorded in `run`; return what is learnt from."""
        engine, learner, earned = FakeEngine(), FakeLearner(), Earned(config)
        engine.version = learner.number = first
        steps = run.rows("metrics.jsonl")
        earned.restore(steps, run.rows("rollouts.jsonl"))
        order = PromptOrder(pool, 7, config.curriculum, earned.ease_at)

        async def on_step(step, metrics, groups):
            run.record_step(metrics, groups)
            earned.add(step, metrics["prompts"], groups)

        taken = steps[-1]["prompts"] if steps else 0
        engines, scorer = [engine], FakeScorer(unscorable=0.2)
        await driver.train(config, order, engines, scorer, learner, on_step, first, taken)
        return [(n, g.prompt.uid, [s.total for s in g.samples]) for n, g in learner.groups]

    whole = RunDir(tmp_path / "whole").begin(config)
    learnt = await rest(whole, 0)
    for cut in range(1, 9):
        shutil.copytree(whole.path, tmp_path / f"cut-{cut}")
        killed = RunDir(tmp_path / f"cut-{cut}")
        killed.truncate(cut)
        assert await rest(killed, cut) == [row for row in learnt if row[0] >= cut]
    assert {uid for _, uid, _ in learnt} == {item.prompt.uid for item in pool}


async def test_the_second_epoch_begins_with_what_earned_most():
    sizes = ["rollout.prompts_per_step=2", "rollout.group_size=4", "steps=8"]
    plan = ["curriculum.by=reward_mean", "curriculum.stages=2"]
    config = load(None, ["data.manifest=x", *sizes, *plan])
    earned, learner = Earned(config), FakeLearner()
    pool = [Item(prompt_at(i)) for i in range(8)]
    order = PromptOrder(pool, 7, config.curriculum, earned.ease_at)

    async def on_step(step, metrics, groups):
        earned.add(step, metrics["prompts"], groups)

    await driver.train(config, order, [FakeEngine()], FakeScorer(), learner, on_step)
    earnt = {g.prompt.uid: fmean(s.total for s in g.samples) for _, g in learner.groups[:6]}
    second = [g.prompt.uid for _, g in learner.groups[8:]]
    assert set(second[:4]) == set(sorted(earnt, key=earnt.__getitem__)[2:])  # the last two: unrated
    assert sorted(second) == sorted(item.prompt.uid for item in pool)
