"""How long a step takes and where its time goes: a typical step, drawn, put through the cost model
(plan/costs.py) in the order in which the driver does things.

The simulation (tests/benchmarks/schedule.py) has the same costs and the driver itself."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoagent_rl.config import Config
from geoagent_rl.geo.providers import rate_per_s, remote_names
from geoagent_rl.grpo.balance import assign, cost
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.plan.costs import PACKED_ROWS, Costs
from geoagent_rl.plan.resources import judges_share_gpus

SIGMA = 0.35  # of the logarithm of completion lengths; estimate
LEARNING = ("learn", "balance", "padding", "host", "reduce", "optimizer", "publish")
STAGES = 3  # questions to the judge for a completion


def typical_step(costs: Costs) -> list[list[int]]:
    """Return the lengths of each prompt's completions in a step: log-normal with the expected
    mean, cut at rollout.max_tokens, always the same ones."""
    r, rng = costs.config.rollout, random.Random(0)
    median = costs.lengths.completion * math.exp(-(SIGMA**2) / 2)

    def drawn() -> int:
        return max(1, min(r.max_tokens, round(median * rng.lognormvariate(0, SIGMA))))

    return [[drawn() for _ in range(r.group_size)] for _ in range(r.prompts_per_step)]


def samples_of(groups: Sequence[Sequence[int]], prompt: int) -> list[TrainSample]:
    """Return stand-ins of the completions, which have lengths only."""
    ids = np.zeros(prompt, np.int32)
    return [
        TrainSample("", str(i), ids, np.zeros(n, np.int32)) for i, g in enumerate(groups) for n in g
    ]


@dataclass(frozen=True, slots=True)
class Learning:
    """Seconds of the learner's slowest rank, by cause."""

    even: float  # an even share, no token computed or padded for nothing
    balance: float  # what the slowest rank has above an even share
    padding: float  # prompts computed again, and rows rounded up
    host: float
    look: float

    @property
    def total(self) -> float:
        """Return the whole step's seconds."""
        return self.even + self.balance + self.padding + self.host + self.look


def learning(costs: Costs, groups: Sequence[Sequence[int]]) -> Learning:
    """Return what learning from a step's groups takes: who learns what is the learner's own
    decision (grpo.balance.assign)."""
    c, balance = costs.config.learner, costs.balance
    samples = samples_of(groups, round(costs.lengths.prompt))
    shares, loads = assign(samples, [0.0] * c.ranks, balance, c.share_prompts, cut=True)
    slowest = loads.index(max(loads))
    share, mean = shares[slowest], sum(map(sum, groups)) / c.ranks
    completion = float(sum(len(s.completion_ids) for s in share))
    whole = sum(cost(samples_of([g], round(costs.lengths.prompt)), balance) for g in groups)
    again, batches = repeated_prompts(costs, share)
    even = costs.learn(whole / c.ranks, mean)
    rounding = batches * (PACKED_ROWS - 1) / 2 if c.gpus_per_rank else 0.0
    return Learning(
        even=even,
        balance=max(0.0, costs.learn(loads[slowest], completion) - even),
        padding=costs.learn(again + rounding, 0.0),
        host=costs.host(batches),
        look=costs.look(len({s.image for s in share})),
    )


def repeated_prompts(costs: Costs, share: Sequence[TrainSample]) -> tuple[float, int]:
    """Return (tokens of prompts that a rank computes once more, its micro-batches): as
    grpo/batching.py fills packed rows."""
    budget = costs.config.learner.micro_batch_tokens
    prompt, tokens, again = costs.lengths.prompt, 0.0, 0.0
    for image in {s.image for s in share}:
        size = sum(len(s.completion_ids) for s in share if s.image == image)
        copies = max(1, math.ceil(size / max(1.0, budget - prompt)))
        again += (copies - 1) * prompt
        tokens += copies * prompt + size
    return again, math.ceil(tokens / budget)


def rollout(costs: Costs, groups: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return the seconds of the busiest engine for its prompts and for its completions: prompts go
    to the engine with the least under way."""
    engines: list[list[int]] = [[] for _ in range(costs.config.rollout.engines)]
    prompts = [0] * len(engines)
    for group in groups:
        least = min(range(len(engines)), key=lambda i: len(engines[i]))
        engines[least] += group
        prompts[least] += 1
    return max(prompts) * costs.engine_prompt(), costs.decode(max(engines, key=sum))


def judging(costs: Costs, calls: float) -> tuple[float, float]:
    """Return the seconds of the judges for so many calls, and what is left of them when the last
    completion has been generated: one completion's, or all where they share the engines' GPUs
    (colocate.ScorerAfterRollout)."""
    j = costs.config.judge
    if not j.has_engine:
        return calls / (j.endpoint.rate_per_s * max(1, len(j.endpoint.api_key_env))), 0.0
    if not calls or not j.gpus_per_replica:
        return 0.0, 0.0
    each = math.ceil(calls / j.replicas)
    batches, rest = divmod(each, j.max_num_seqs)
    busy = batches * costs.judge_batch(j.max_num_seqs)
    busy += costs.judge_batch(rest) if rest else 0.0
    tail = busy if judges_share_gpus(costs.config) else costs.judge_batch(STAGES)
    return busy, tail + costs.gpu.rates.call_s


def geocoder_seconds(config: Config, calls: float) -> float:
    """Return the slowest provider's shared rate limit."""
    g = config.reward.geocoder
    rates = [rate_per_s(g, name) for name in remote_names(g)]
    return calls / min(rates) if rates else 0.0


def step_time(costs: Costs, step: dict[str, float]) -> dict[str, Any]:
    """Return the seconds of each part alone, of the step, its critical part, and where its time
    goes at max_staleness 0.

    At 0 rollout and rewards go before the learner, which sends new weights before the next step
    begins. Above 0 generation, rewards and learning go on at the same time."""
    config, groups = costs.config, typical_step(costs)
    prompts, decode = rollout(costs, groups)
    busy, tail = judging(costs, step["judge_calls"])
    learned, together = learning(costs, groups), config.placement.colocate
    generating = prompts + decode
    slow = {"judge": busy, "geocoder": geocoder_seconds(config, step["geocoder_calls"])}
    terms = {
        "prompts": prompts,
        "decode": decode,
        "judge": max(tail, max(slow.values()) - generating),
        "sleep": costs.sleep() if together else 0.0,
        "learn": learned.even,
        "balance": learned.balance,
        "padding": learned.padding,
        "host": learned.host + learned.look + costs.handout(step["completions"]),
        "reduce": costs.reduce(),
        "optimizer": costs.optimizer(),
        "publish": costs.publish() + costs.swap(),
        "wake": costs.wake() if together else 0.0,
    }
    fitting = sum(terms[name] for name in LEARNING)
    seconds = {"rollout": generating, "learner": fitting} | slow
    total = sum(terms.values()) if config.max_staleness == 0 else max(seconds.values())
    return {
        "seconds": seconds,
        "terms": terms if config.max_staleness == 0 else {},
        "step_seconds": total,
        "critical": max(seconds, key=lambda part: seconds[part]),
        "constants": costs.gpu.rates.source or "estimates",
    }
