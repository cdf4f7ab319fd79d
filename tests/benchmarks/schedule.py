"""What a step takes on 8 and on 64 H100s, and where its time goes: the real driver, scorer and
assignment of work in virtual time, with the costs that `plan` reckons with.

    python -m tests.benchmarks.schedule [8] [64] [--measured FILE] [--svg FILE]

Prints Markdown tables. Beside this project's layouts: a hybrid schedule as verl's (the same GPUs
generate a whole batch, then rewards, then a pass for old log-probabilities and the learner, without
shared prompts) and a serial one as the paper's authors' (rewards one by one). T* is what the
busiest GPU works in a step; T*/T would be 1 if it never waited."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoagent_rl import driver
from geoagent_rl.colocate import ColocatedLearner, ScorerAfterRollout
from geoagent_rl.plan.costs import Costs
from geoagent_rl.plan.resources import judges_share_gpus
from geoagent_rl.plan.schedule import STAGES, step_time
from geoagent_rl.rewards.scorer import Scorer
from tests.support import virtual_time
from tests.support.schedule_figure import svg
from tests.support.simulated_cluster import Engine, Judge, Learner, Rewards, prompt_at, serial_step
from tests.support.simulated_costs import Latency, costs_of

STEPS = 4
OWN_JUDGE = "judge.gpus_per_replica=1 judge.memory=0.7 judge.max_num_seqs=64"
POOLS = f"placement.colocate=false rollout.memory=0.7 learner.gpus_per_rank=1 {OWN_JUDGE}"
ONE_GPU = "rollout.tensor_parallel=1 rollout.gpus_per_engine=1"
FOUR_GPUS = "rollout.tensor_parallel=4 rollout.gpus_per_engine=4"
LARGE = "rollout.prompts_per_step=128 rollout.group_size=16"
ALL_64 = f"{LARGE} rollout.engines=16 learner.ranks=64 judge.replicas=64"
PEERS = "learner.share_prompts=false"
HYBRID, SERIAL = "hybrid, as verl", "serial, as the authors"
MEANWHILE = "the same, judges answer during the rollout"
LAYOUTS = {
    8: {
        "all take turns (paper-8x80gb.yaml)": "",
        MEANWHILE: "",
        "the same, an engine on every GPU": "rollout.engines=8 rollout.tensor_parallel=1",
        "pools: 3 engines, 4 ranks, 1 judge": f"{POOLS} {ONE_GPU} rollout.engines=3 "
        "learner.ranks=4 judge.replicas=1",
        "pools: 1 engine of 4 GPUs, 3 ranks, 1 judge": f"{POOLS} {FOUR_GPUS} rollout.engines=1 "
        "learner.ranks=3 judge.replicas=1",
        HYBRID: PEERS,
        SERIAL: PEERS,
    },
    64: {
        "all take turns": ALL_64,
        MEANWHILE: ALL_64,
        "pools: 28 engines, 28 ranks, 8 judges": f"{LARGE} {POOLS} {ONE_GPU} rollout.engines=28 "
        "learner.ranks=28 judge.replicas=8",
        "pools: 24 engines, 26 ranks, 14 judges, one step ahead": f"{LARGE} {POOLS} {ONE_GPU} "
        "max_staleness=1 rollout.swap=adapter rollout.engines=24 learner.ranks=26 "
        "judge.replicas=14",
        HYBRID: f"{ALL_64} {PEERS}",
        SERIAL: f"{ALL_64} {PEERS}",
    },
}


@dataclass
class Simulated:
    """One layout: its costs, seconds of a step and of each part of it, and busy seconds a step."""

    costs: Costs
    step_s: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    busy_s: float = 0.0  # of the busiest GPU: T*


async def streamed(costs: Costs, judges_wait: bool = True) -> Simulated:
    """The driver as it is. judges_wait: for the end of the rollout, where they share its GPUs."""
    config, rows = costs.config, []
    engines = [Engine(costs) for _ in range(config.rollout.engines)]
    rewards, learner = Rewards(costs, Latency(), engines), Learner(costs)

    async def on_step(step: int, metrics: dict[str, Any], groups: Any) -> None:
        rows.append(metrics)

    scorer, shared = Scorer(rewards.services, config.reward), judges_share_gpus(config)
    await driver.train(
        config,
        prompt_at,
        engines,
        ScorerAfterRollout(scorer, engines) if shared and judges_wait else scorer,
        ColocatedLearner(learner, engines) if config.placement.colocate else learner,
        on_step,
    )
    rows = rows[config.max_staleness :]
    mean = {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
    parts = {
        "generating": mean["rollout_busy_seconds"],
        "waiting for rewards": mean["reward_exposed_seconds"],
        "sleep, learning, publishing": mean["learn_busy_seconds"],
        "swap, wake": mean["swap_seconds"],
    }
    busy = busiest(costs, engines, rewards.judges, learner)
    return Simulated(costs, mean["step_seconds"], parts, busy)


async def batched(costs: Costs, one_by_one: bool) -> Simulated:
    """Phase after phase. The hybrid one computes old log-probabilities in a pass of its own."""
    config = costs.config
    engines = [Engine(costs) for _ in range(config.rollout.engines)]
    rewards = Rewards(costs, Latency(), engines)
    learner = Learner(costs, further_passes=0 if one_by_one else 1)
    scorer, size = Scorer(rewards.services, config.reward), config.rollout.prompts_per_step
    seconds = [
        await serial_step(
            config, engines, scorer, ColocatedLearner(learner, engines), i * size, one_by_one
        )
        for i in range(STEPS)
    ]
    busy = busiest(costs, engines, rewards.judges, learner)
    return Simulated(costs, statistics.fmean(seconds), {}, busy)


def busiest(costs: Costs, engines: list[Engine], judges: list[Judge], learner: Learner) -> float:
    """T*: the busy seconds a step of the GPU that works most."""
    parts = [max(e.busy_s for e in engines), max(j.busy_s for j in judges), max(learner.busy)]
    if not costs.config.placement.colocate:
        return max(parts) / STEPS
    return (sum(parts) if judges_share_gpus(costs.config) else parts[0] + parts[2]) / STEPS


def simulate(name: str, overrides: str, measured: Path | None) -> Simulated:
    """One layout by its name."""
    costs = costs_of(f"steps={STEPS}", *overrides.split(), measured=measured)
    if name in (HYBRID, SERIAL):
        return virtual_time.run(batched(costs, name == SERIAL))
    return virtual_time.run(streamed(costs, judges_wait=name != MEANWHILE))


def planned(costs: Costs) -> dict[str, Any]:
    """What `plan` says of the same configuration."""
    completions = costs.config.rollout.prompts_per_step * costs.config.rollout.group_size
    work = {"completions": completions, "judge_calls": STAGES * completions, "geocoder_calls": 0}
    return step_time(costs, work)


def show(gpus: int, found: dict[str, Simulated]) -> None:
    """Print the tables of one size."""
    ours = next(iter(found.values()))
    r = ours.costs.config.rollout
    print(f"### {gpus} H100, {r.prompts_per_step} x {r.group_size}\n")
    print("| schedule | step, s | `plan`, s | T*, s | T*/T | where it goes |")
    print("|---|---|---|---|---|---|")
    for name, s in found.items():
        where = ", ".join(f"{part} {seconds:.1f}" for part, seconds in s.parts.items())
        known = s.parts and name != MEANWHILE
        plan = f"{planned(s.costs)['step_seconds']:.1f}" if known else ""
        print(
            f"| {name} | {s.step_s:.1f} | {plan} | {s.busy_s:.1f} | {s.busy_s / s.step_s:.2f} "
            f"| {where} |"
        )
    terms = {k: v for k, v in planned(ours.costs)["terms"].items() if v >= 0.005}
    print(f"\n| {' | '.join(terms)} |\n|{'---|' * len(terms)}")
    print(f"| {' | '.join(f'{v:.2f}' for v in terms.values())} |\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gpus", nargs="*", type=int, help="8, 64; without: both")
    parser.add_argument("--measured", type=Path, help="constants from a file as docs/gpu.jsonl")
    parser.add_argument("--svg", type=Path, help="where to write the figure of 8 GPUs")
    asked = parser.parse_args()
    for gpus in asked.gpus or LAYOUTS:
        found = {
            name: simulate(name, overrides, asked.measured)
            for name, overrides in LAYOUTS[gpus].items()
        }
        show(gpus, found)
        if gpus == 8 and asked.svg:
            rows = {name: (s.step_s, s.busy_s, s.parts) for name, s in found.items()}
            asked.svg.write_text(svg(rows))


if __name__ == "__main__":
    main()
