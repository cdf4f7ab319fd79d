"""How well the driver hides reward latency, how fast it is, and what a 64-GPU run would be limited
by.

    python -m tests.benchmarks.driver [hiding] [throughput] [gpus64]

Without an argument: all three. Prints one JSON object a line.

`hiding` and `gpus64` run the real driver and the real scorer in virtual time on
tests/support/simulated_cluster.py, whose times are assumptions about hardware; `throughput` runs
the driver in real time on engines that cost nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import statistics
import sys
import time

import psutil

from geoagent_rl import config as configuration
from geoagent_rl import driver
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.types import Outcome, PolicyVersion, Rollout, ScoredRollout
from tests.support import virtual_time
from tests.support.simulated_cluster import (
    Engine,
    Hardware,
    Learner,
    Rewards,
    prompt_at,
    serial_step,
)


def settings(*overrides: str) -> configuration.Config:
    return configuration.load(None, ["data.manifest=x", "rollout.group_size=8", *overrides])


async def simulate(
    config: configuration.Config, hardware: Hardware
) -> tuple[list[dict], dict[str, float]]:
    """Metrics of every step, and what each part was used for as a share of what it could have
    done.
    """
    engines = [Engine(hardware) for _ in range(hardware.engines)]
    rewards, learner, rows = Rewards(hardware), Learner(hardware), []

    async def on_step(step, metrics, groups):
        rows.append(metrics)

    await driver.train(
        config, prompt_at, engines, Scorer(rewards.services, config.reward), learner, on_step
    )
    seconds = asyncio.get_running_loop().time()
    geocoders = hardware.geocode_workers * hardware.geocode_in_flight
    used = {
        "rollout": sum(e.busy_s for e in engines) / (seconds * hardware.engines * hardware.slots),
        "geocode": rewards.busy_s["geocode"] / (seconds * geocoders),
        "judge": rewards.busy_s["judge"]
        / (seconds * hardware.judge_replicas * hardware.judge_slots),
        "learner": learner.busy_s / seconds,
    }
    return rows, used | {"seconds": seconds, "samples": learner.samples}


async def serial(config: configuration.Config, hardware: Hardware, one_by_one: bool) -> float:
    engines, rewards = [Engine(hardware) for _ in range(hardware.engines)], Rewards(hardware)
    size, scorer, learner = (
        config.rollout.prompts_per_step,
        Scorer(rewards.services, config.reward),
        Learner(hardware),
    )
    steps = [
        await serial_step(config, engines, scorer, learner, i * size, one_by_one)
        for i in range(2 if one_by_one else 5)
    ]
    return statistics.fmean(steps)


def hiding(prompts: int, staleness: int, steps: int = 12) -> dict:
    """One row: exposed share, efficiency, and the serial schedules on the same services."""
    config = settings(
        f"rollout.prompts_per_step={prompts}", f"max_staleness={staleness}", f"steps={steps}"
    )
    hardware = Hardware()
    free = dataclasses.replace(hardware, geocode_s=(0.0, 0.0), judge_s=0.0)
    rows, without = (virtual_time.run(simulate(config, h))[0][staleness:] for h in (hardware, free))
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
        "serial_batch_step_s": round(virtual_time.run(serial(config, hardware, False)), 1),
        "serial_one_by_one_step_s": round(virtual_time.run(serial(config, hardware, True)), 1),
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
        return PolicyVersion(self.number, "merged", ""), {}


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


GPUS_64 = Hardware(
    engines=32, geocode_workers=200, geocode_in_flight=4, judge_replicas=24, learner_ranks=8
)


def gpus64(prompts: int, staleness: int, epoch: int = 20_000) -> dict:
    """32 engines, 8 learner ranks, 24 judge replicas (64 GPUs) and 200 reward workers: one epoch of
    20,000 x 8.
    """
    config = settings(
        f"rollout.prompts_per_step={prompts}",
        f"max_staleness={staleness}",
        f"steps={epoch // prompts}",
    )
    begin = time.monotonic()
    rows, used = virtual_time.run(simulate(config, GPUS_64))
    assert used["samples"] == epoch // prompts * prompts * 8
    shares = {part: round(used[part], 3) for part in ("rollout", "geocode", "judge", "learner")}
    return {
        "prompts_per_step": prompts,
        "max_staleness": staleness,
        "predicted_hours": round(used["seconds"] / 3600, 2),
        "step_s": round(statistics.fmean(row["step_seconds"] for row in rows), 1),
        "used": shares,
        "bottleneck": max(shares, key=shares.get),
        "reward_exposed_share": round(
            sum(row["reward_exposed_seconds"] for row in rows)
            / sum(row["step_seconds"] for row in rows),
            4,
        ),
        "simulated_in_s": round(time.monotonic() - begin, 1),
    }


def main() -> None:
    asked = sys.argv[1:] or ["hiding", "throughput", "gpus64"]
    if "hiding" in asked:
        print(json.dumps({"assumed": dataclasses.asdict(Hardware())}))
        for prompts, staleness in ((8, 0), (8, 1), (32, 0), (32, 1), (128, 0), (128, 1)):
            print(json.dumps(hiding(prompts, staleness)), flush=True)
    if "throughput" in asked:
        print(json.dumps(throughput()), flush=True)
    if "gpus64" in asked:
        for prompts, staleness in ((256, 1), (256, 0), (64, 1)):
            print(json.dumps(gpus64(prompts, staleness)), flush=True)


if __name__ == "__main__":
    main()
