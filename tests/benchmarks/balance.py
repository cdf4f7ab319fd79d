"""How evenly a step's work lies on the ranks, how much padding it has, and what handing it out
costs.

    python -m tests.benchmarks.balance [tokens] [padding] [handout] [--rollouts RUN/rollouts.jsonl]

Without an argument: all three, one JSON object a line. `tokens` and `padding` are counts, with the
lengths of a recorded run, stretched to a mean of 600, or log-normal ones (mean 600, at most 1,024),
behind prompts of 400, and the costs of Qwen2.5-VL-7B. `handout` is the driver's CPU seconds on real
Ray: its calls go to two actors that do nothing, as many as there are ranks."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import ray

from actors.learner_group import LearnerGroup
from geoagent_rl.grpo.balance import assign, cost
from geoagent_rl.grpo.batching import Layout, micro_batches, padded_tokens
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.types import Group, Prompt, Rollout, ScoredRollout, Truth

BALANCE, PROMPT, MEAN, STEPS = 32_512, 400, 600, 20
SHAPES = ((1, 8, 8), (2, 8, 8), (4, 8, 8), (8, 8, 8), (28, 128, 16), (64, 128, 16))
BUDGETS = (1024, 2048, 4096, 8192, 16384)
LAYOUTS = {"packed": (True, 128), "masked": (False, 8)}


class Lengths:
    """Lengths of completions: a recorded run's, by group and stretched, or drawn."""

    def __init__(self, rollouts: Path | None) -> None:
        self.rng = random.Random(0)
        self.recorded: dict[tuple[int, str], list[int]] = defaultdict(list)
        for line in rollouts.read_text().splitlines() if rollouts else []:
            row = json.loads(line)
            self.recorded[row["step"], row["uid"]].append(row["tokens"])
        sizes = [n for group in self.recorded.values() for n in group]
        self.stretch = MEAN * len(sizes) / max(1, sum(sizes))

    def group(self, size: int) -> list[int]:
        if self.recorded:
            chosen = self.rng.choice(list(self.recorded.values()))
            return [max(1, round(self.stretch * self.rng.choice(chosen))) for _ in range(size)]
        drawn = (MEAN * self.rng.lognormvariate(-0.06, 0.35) for _ in range(size))
        return [max(1, min(1024, int(n))) for n in drawn]

    def steps(self, prompts: int, size: int) -> Iterator[list[list[TrainSample]]]:
        self.rng.seed(0)
        ids = np.arange(PROMPT, dtype=np.int32)
        for _ in range(STEPS):
            yield [
                [TrainSample("", str(i), ids, np.zeros(n)) for n in self.group(size)]
                for i in range(prompts)
            ]


def tokens(lengths: Lengths) -> None:
    """The slowest rank's work over the mean rank's if no prompt were computed twice."""
    for ranks, prompts, size in SHAPES:
        ratios, seconds = [], []
        for groups in lengths.steps(prompts, size):
            loads = [0.0] * ranks
            for start in range(0, prompts, ranks):
                call = [s for group in groups[start : start + ranks] for s in group]
                begin = time.thread_time()
                _, loads = assign(call, loads, BALANCE, cut=start + ranks >= prompts)
                seconds.append(time.thread_time() - begin)
            ratios.append(max(loads) * ranks / sum(cost(group, BALANCE) for group in groups))
        row = {"ranks": ranks, "groups": f"{prompts} x {size}"}
        row |= {"critical path / ideal": mean(ratios), "at most": round(max(ratios), 3)}
        print(json.dumps(row | {"ms of CPU of a rank for a call": round(1e3 * max(seconds), 1)}))


def padding(lengths: Lengths) -> None:
    """Tokens of all passes over tokens of prompts and completions, no prompt twice."""
    for name, (packed, multiple) in LAYOUTS.items():
        for budget in BUDGETS:
            layout = Layout(budget, BALANCE, packed=packed, multiple=multiple)
            passed = blocks = wanted = 0
            for groups in lengths.steps(8, 8):
                batches = [b for group in groups for b in micro_batches(group, layout)]
                passed += sum(padded_tokens(rows, layout) for rows in batches)
                found = [block for rows in batches for row in rows for block in row]
                blocks += sum(PROMPT + sum(len(s.completion_ids) for s in b) for b in found)
                wanted += sum(PROMPT + sum(len(s.completion_ids) for s in g) for g in groups)
            row = {"rows": name, "micro_batch_tokens": budget}
            row["padding"] = round(passed / blocks, 3)
            print(json.dumps(row | {"with prompts again": round(passed / wanted, 3)}))


@ray.remote(num_cpus=0)
class Rank:
    def call(self, method: str, groups: list) -> int:
        return len(groups)


def rollout_group(i: int, size: int) -> Group:
    ids = tuple(range(1000))
    rollouts = (
        Rollout(f"{i}", k, ids[:PROMPT], ids, tuple(map(float, ids)), "", "stop", 0)
        for k in range(size)
    )
    samples = tuple(ScoredRollout(r, {}, 1.0) for r in rollouts)
    return Group(Prompt(str(i), "x", Truth("", "", "", 0, 0)), samples, (0.5,) * size)


async def handout(ranks: int = 64, prompts: int = 128, size: int = 16) -> None:
    """CPU seconds of the driver for a step, and the longest that its event loop stands still."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    actors = [Rank.remote() for _ in range(2)]
    groups = [rollout_group(i, size) for i in range(prompts)]
    longest, idle = 0.0, asyncio.create_task(asyncio.sleep(0))

    async def watch() -> None:
        nonlocal longest
        while True:
            begin = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - begin)

    await idle
    for watched in (True, False, True):  # the first one warms up; watching takes CPU of its own
        learner = LearnerGroup([actors[i % 2] for i in range(ranks)], 60.0, together=ranks)
        watching = asyncio.create_task(watch() if watched else asyncio.sleep(0))
        longest, begin = 0.0, time.thread_time()
        for group in groups:
            await asyncio.gather(learner.accumulate(group), asyncio.sleep(0))
        await learner.learn_waiting()
        if not watched:
            spent = time.thread_time() - begin
        watching.cancel()
    row = {"ranks": ranks, "completions": prompts * size, "CPU s": round(spent, 3)}
    print(json.dumps(row | {"longest block, ms": round(1e3 * longest, 1)}))
    ray.shutdown()


def mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", help="tokens, padding, handout")
    parser.add_argument("--rollouts", type=Path)
    arguments = parser.parse_args()
    asked, lengths = arguments.what or ["tokens", "padding", "handout"], Lengths(arguments.rollouts)
    for name in asked:
        if name == "handout":
            asyncio.run(handout())
        else:
            {"tokens": tokens, "padding": padding}[name](lengths)


if __name__ == "__main__":
    main()
