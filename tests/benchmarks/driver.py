"""How well the driver hides the latency of rewards, and how fast it is.

    python -m tests.benchmarks.driver [hiding] [throughput]

Without an argument: both. Prints one JSON object a line.

`hiding` runs the real driver and the real scorer in virtual time on
tests/support/simulated_cluster.py; `throughput` runs the driver in real time on engines that cost
nothing."""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import sys
import time

import psutil

from geoagent_rl import config as configuration
from geoagent_rl import driver
from geoagent_rl.plan.costs import Costs
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.types import Outcome, PolicyVersion, Rollout, ScoredRollout
from tests.support import virtual_time
from tests.support.simulated_cluster import Engine, Learner, Rewards, prompt_at, serial_step
from tests.support.simulated_costs import FREE, REMOTE, Latency, pools_of


def settings(*overrides: str) -> configuration.Config:
    return configuration.load(None, ["data.manifest=x", "rollout.group_size=8", *overrides])


async def simulate(costs: Costs, latency: Latency) -> list[dict]:
    """Metrics of every step but the first ones, which fill the pipeline."""
    config, rows = costs.config, []
    engines = [Engine(costs) for _ in range(config.rollout.engines)]

    async def on_step(step, metrics, groups):
        rows.append(metrics)

    scorer = Scorer(Rewards(costs, latency).services, config.reward)
    await driver.train(config, prompt_at, engines, scorer, Learner(costs), on_step)
    return rows[config.max_staleness :]


async def serial(costs: Costs, one_by_one: bool) -> float:
    config = costs.config
    engines = [Engine(costs) for _ in range(config.rollout.engines)]
    scorer, learner = Scorer(Rewards(costs, REMOTE).services, config.reward), Learner(costs)
    size = config.rollout.prompts_per_step
    steps = [
        await serial_step(config, engines, scorer, learner, i * size, one_by_one)
        for i in range(2 if one_by_one else 5)
    ]
    return statistics.fmean(steps)


def hiding(prompts: int, staleness: int, steps: int = 12) -> dict:
    """One row: exposed share, efficiency, and the serial schedules on the same services."""
    costs = pools_of(prompts, staleness, steps)
    rows, without = (virtual_time.run(simulate(costs, latency)) for latency in (REMOTE, FREE))
    step_s, free_s = (statistics.fmean(row["step_seconds"] for row in r) for r in (rows, without))
    exposed = statistics.fmean(row["reward_exposed_seconds"] for row in rows)
    return {
        "prompts_per_step": prompts,
        "max_staleness": staleness,
        "step_s": round(step_s, 1),
        "reward_exposed_s": round(exposed, 2),
        "exposed_share": round(exposed / step_s, 4),
        "saved_if_rewards_were_free": round(1 - free_s / step_s, 4),
        "efficiency": round(statistics.fmean(row["efficiency"] for row in rows), 3),
        "serial_batch_step_s": round(virtual_time.run(serial(costs, False)), 1),
        "serial_one_by_one_step_s": round(virtual_time.run(serial(costs, True)), 1),
    }


class FreeEngine:
    """Completions that cost nothing but arrive only when `in_flight` of them are wanted at once."""

    up, under_way = True, 0

    def __init__(self) -> None:
        self.open, self.most = 0, 0

    async def generate(self, prompt, sampling):
        self.open += sampling.n
        self.most = max(self.most, self.open)
        await asyncio.sleep(0.05)  # so that a whole batch is in flight
        now = time.monotonic()
        for i in range(sampling.n):
            self.open -= 1
            spans = {"submitted": now, "generated": now}
            yield Rollout(prompt.uid, i, (1,), (2,) * 8, (-0.1,) * 8, "text", "stop", 0, spans)

    async def swap(self, version):
        return 0.0

    async def ready(self):
        pass

    async def answers(self):
        return True

    def failed(self, problem):
        raise problem


class FreeScorer:
    async def score(self, prompt, rollout):
        await asyncio.sleep(0)
        return ScoredRollout(
            rollout, {"spatial": Outcome("score", rollout.index / 8)}, rollout.index / 8
        )


class FreeLearner:
    number = 0

    async def accumulate(self, group):
        pass

    async def step(self):
        self.number += 1
        return PolicyVersion(self.number, "checkpoint", ""), {}


def throughput(in_flight: int = 10_000, samples: int = 100_000) -> dict:
    prompts = in_flight // 8
    steps = math.ceil(samples / (prompts * 8))
    config = settings(f"rollout.prompts_per_step={prompts}", f"steps={steps}", "rollout.engines=4")
    engines, memory, times = [FreeEngine() for _ in range(4)], [], [time.monotonic()]

    async def on_step(step, metrics, groups):
        memory.append(psutil.Process().memory_info().rss / 2**20)
        times.append(time.monotonic())

    asyncio.run(driver.train(config, prompt_at, engines, FreeScorer(), FreeLearner(), on_step))
    seconds = times[-1] - times[0]
    return {
        "samples": steps * prompts * 8,
        "most_in_flight": sum(engine.most for engine in engines),
        "samples_per_s": round(steps * prompts * 8 / seconds),
        "memory_mib_after_20_percent": round(memory[steps // 5 - 1], 1),
        "memory_mib_at_the_end": round(memory[-1], 1),
    }


def main() -> None:
    asked = sys.argv[1:] or ["hiding", "throughput"]
    if "hiding" in asked:
        for prompts, staleness in ((8, 0), (8, 1), (32, 0), (32, 1), (128, 0), (128, 1)):
            print(json.dumps(hiding(prompts, staleness)), flush=True)
    if "throughput" in asked:
        print(json.dumps(throughput()), flush=True)


if __name__ == "__main__":
    main()
