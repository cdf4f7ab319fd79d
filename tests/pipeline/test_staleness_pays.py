"""How well reward latency is hidden: the real driver and scorer in virtual time, on services as
slow as real ones.
"""

import statistics

from geoagent_rl import driver
from geoagent_rl.rewards.scorer import Scorer
from tests.support import virtual_time
from tests.support.simulated_cluster import Engine, Learner, Rewards, prompt_at, serial_step
from tests.support.simulated_costs import FREE, REMOTE, pools_of


def steps_of(costs, latency):
    """Mean of each metric over the steps; the first ones, which fill the pipeline, left out."""
    config = costs.config

    async def work():
        rows, rewards = [], Rewards(costs, latency)

        async def on_step(step, metrics, groups):
            rows.append(metrics)

        engines = [Engine(costs) for _ in range(config.rollout.engines)]
        scorer = Scorer(rewards.services, config.reward)
        await driver.train(config, prompt_at, engines, scorer, Learner(costs), on_step)
        return rows[config.max_staleness :]

    rows = virtual_time.run(work())
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def test_on_policy_the_learner_waits_for_one_samples_rewards_however_many_there_are():
    costs = pools_of(prompts=128, staleness=0, steps=2)
    config, slow, free = costs.config, steps_of(costs, REMOTE), steps_of(costs, FREE)
    few = steps_of(pools_of(prompts=16, staleness=0, steps=2), REMOTE)
    assert slow["reward_exposed_seconds"] <= 1.5 * few["reward_exposed_seconds"]
    saved = slow["step_seconds"] - free["step_seconds"]
    assert (
        1.0 < saved <= slow["reward_exposed_seconds"]
    )  # free rewards would save one latency, and no more than said

    async def serial():
        engines = [Engine(costs) for _ in range(config.rollout.engines)]
        scorer = Scorer(Rewards(costs, REMOTE).services, config.reward)
        return await serial_step(config, engines, scorer, Learner(costs), 0, one_by_one=False)

    assert virtual_time.run(serial()) > 1.1 * slow["step_seconds"]


def test_one_step_ahead_the_slowest_part_works_nine_tenths_of_the_time():
    row = steps_of(pools_of(prompts=32, staleness=1, steps=4, ranks=2), REMOTE)
    assert row["efficiency"] >= 0.9 and row["reward_exposed_seconds"] <= 0.02 * row["step_seconds"]
