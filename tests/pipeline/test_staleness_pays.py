"""How well reward latency is hidden: the real driver and scorer in virtual time, on services as
slow as real ones.
"""

import dataclasses
import statistics

from geoagent_rl import config as configuration
from geoagent_rl import driver
from geoagent_rl.rewards.scorer import Scorer
from tests.support import virtual_time
from tests.support.simulated_cluster import (
    Engine,
    Hardware,
    Learner,
    Rewards,
    prompt_at,
    serial_step,
)

SLOW = Hardware()  # geocode 300 +- 200 ms, judge 3 x 1.2 s per sample
FREE = dataclasses.replace(SLOW, geocode_s=(0.0, 0.0), judge_s=0.0)


def settings(prompts, staleness, steps):
    asked = [f"rollout.prompts_per_step={prompts}", f"max_staleness={staleness}", f"steps={steps}"]
    return configuration.load(None, ["data.manifest=x", "rollout.group_size=8", *asked])


def steps_of(config, hardware):
    """Mean of each metric over the steps; the first ones, which fill the pipeline, left out."""

    async def work():
        rows, rewards = [], Rewards(hardware)

        async def on_step(step, metrics, groups):
            rows.append(metrics)

        engines = [Engine(hardware) for _ in range(hardware.engines)]
        scorer = Scorer(rewards.services, config.reward)
        await driver.train(config, prompt_at, engines, scorer, Learner(hardware), on_step)
        return rows[config.max_staleness :]

    rows = virtual_time.run(work())
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def test_on_policy_the_learner_waits_for_rewards_at_most_two_percent_of_a_step():
    config = settings(prompts=128, staleness=0, steps=2)
    slow, free = steps_of(config, SLOW), steps_of(config, FREE)
    assert slow["reward_exposed_seconds"] <= 0.02 * slow["step_seconds"]
    saved = slow["step_seconds"] - free["step_seconds"]
    assert (
        1.0 < saved <= slow["reward_exposed_seconds"]
    )  # free rewards would save one latency, and no more than said

    async def serial():
        engines, scorer = (
            [Engine(SLOW) for _ in range(SLOW.engines)],
            Scorer(Rewards(SLOW).services, config.reward),
        )
        return await serial_step(config, engines, scorer, Learner(SLOW), 0, one_by_one=False)

    assert virtual_time.run(serial()) > 1.1 * slow["step_seconds"]


def test_one_step_ahead_the_slowest_part_works_nine_tenths_of_the_time():
    row = steps_of(settings(prompts=32, staleness=1, steps=4), SLOW)
    assert row["efficiency"] >= 0.9 and row["reward_exposed_seconds"] <= 0.02 * row["step_seconds"]
