"""Engines, reward services and a learner that only take time, for the real driver and the real
scorer.

The times are assumptions about hardware (see Hardware), not measurements: what is real here is the
schedule."""

import asyncio
import math
import random
from dataclasses import dataclass
from types import SimpleNamespace

from geoagent_rl.credit import comparable_totals
from geoagent_rl.grpo.advantages import group_advantages
from geoagent_rl.rewards.services import Services, Similarity, Verdict
from geoagent_rl.types import Group, PolicyVersion, Prompt, Rollout, Sampling, Truth
from tests.support.reward_fakes import completion

TEXT = completion()
TRUTH = Truth("Germany", "Bayern", "München", 48.0, 11.0)
PLACE = SimpleNamespace(
    lat=48.0,
    lon=11.0,
    level="place",
    name="Munich",
    admin1="Bavaria",
    country_code="DE",
    provider="simulated",
)


@dataclass(frozen=True)
class Hardware:
    """Seconds and sizes of a 7B policy with LoRA on 80 GB GPUs, assumed."""

    engines: int = 4
    slots: int = 64  # sequences at once in an engine (rollout.max_num_seqs)
    prefill_s: float = 0.3
    token_s: float = 0.025  # per token of one sequence
    tokens: tuple[float, float] = (400.0, 0.35)  # of a completion: median and sigma of a log-normal
    longest: int = 1024  # rollout.max_tokens
    geocode_s: tuple[float, float] = (0.3, 0.2)  # mean and standard deviation
    geocode_workers: int = 8
    geocode_in_flight: int = 32  # of one worker
    judge_s: float = 1.2  # for one of a sample's three stages
    judge_replicas: int = 12
    judge_slots: int = 64
    learner_ranks: int = 4
    learned_tokens_per_s: float = 2000.0  # of one rank: forward, backward and reference
    prompt_tokens: int = 450  # image and text
    step_s: float = 1.5  # optimizer and publishing
    swap_s: float = 1.0


def prompt_at(i: int) -> Prompt:
    return Prompt(f"p{i}", f"/{i}.jpg", TRUTH)


class Engine:
    """Continuous batching: a sequence takes a slot for its prefill and its tokens."""

    under_way = 0

    def __init__(self, hardware: Hardware) -> None:
        self.hardware, self.version, self.up = hardware, 0, True
        self.slots = asyncio.Semaphore(hardware.slots)
        self.busy_s = 0.0  # slot-seconds

    async def complete(self, uid, index, seed, asked):
        h, chance = self.hardware, random.Random(f"{seed}/{index}")
        length = min(h.longest, round(h.tokens[0] * math.exp(chance.gauss(0, h.tokens[1]))))
        version = self.version
        async with self.slots:
            seconds = h.prefill_s + h.token_s * length
            self.busy_s += seconds
            await asyncio.sleep(seconds)
        spans = {"submitted": asked, "generated": asyncio.get_running_loop().time()}
        return Rollout(uid, index, (1,), (2,) * length, (), TEXT, "stop", version, spans)

    async def generate(self, prompt, sampling):
        asked = asyncio.get_running_loop().time()
        work = [self.complete(prompt.uid, i, sampling.seed, asked) for i in range(sampling.n)]
        for finished in asyncio.as_completed(work):
            yield await finished

    async def swap(self, version):
        await asyncio.sleep(self.hardware.swap_s)
        self.version = version.number
        return self.hardware.swap_s

    async def ready(self):
        pass

    async def answers(self):
        return True

    def failed(self, problem):
        raise problem


class Rewards:
    """Geocoder, semantic service and judge, each with so many answers under way at once."""

    def __init__(self, hardware: Hardware, seed: int = 0) -> None:
        self.hardware, self.chance = hardware, random.Random(seed)
        self.geocoders = asyncio.Semaphore(hardware.geocode_workers * hardware.geocode_in_flight)
        self.judges = asyncio.Semaphore(hardware.judge_replicas * hardware.judge_slots)
        self.busy_s = {"geocode": 0.0, "judge": 0.0}
        self.services = Services(self, self, self)

    async def take(self, kind, room, seconds):
        async with room:
            self.busy_s[kind] += seconds
            await asyncio.sleep(seconds)

    async def geocode(self, addresses):
        times = [max(0.02, self.chance.gauss(*self.hardware.geocode_s)) for _ in addresses]
        await asyncio.gather(*(self.take("geocode", self.geocoders, seconds) for seconds in times))
        return [PLACE] * len(addresses)

    async def similarities(self, pairs):
        return [Similarity(self.chance.random(), "encoder") for _ in pairs]

    async def same_place(self, pairs):
        return [pair.a == pair.b for pair in pairs]

    async def judge(self, items):
        await asyncio.gather(
            *(self.take("judge", self.judges, self.hardware.judge_s) for _ in items)
        )
        return [Verdict(item.reasoning.split(":")[0], 0.0) for item in items]


class Learner:
    def __init__(self, hardware: Hardware) -> None:
        self.hardware, self.number, self.busy_s, self.samples = hardware, 0, 0.0, 0
        self.turn = asyncio.Lock()

    async def accumulate(self, group):
        h = self.hardware
        tokens = sum(h.prompt_tokens + len(s.rollout.completion_ids) for s in group.samples)
        self.busy_s += (seconds := tokens / (h.learner_ranks * h.learned_tokens_per_s))
        self.samples += len(group.samples)
        async with self.turn:
            await asyncio.sleep(seconds)

    async def step(self):
        self.number += 1
        self.busy_s += self.hardware.step_s
        await asyncio.sleep(self.hardware.step_s)
        return PolicyVersion(self.number, "adapter", ""), {}


async def serial_step(config, engines, scorer, learner, first, one_by_one):
    """What the same parts take when rewards wait for the whole batch, and learning for all rewards.
    Seconds.
    """
    loop = asyncio.get_running_loop()
    start, size = loop.time(), config.rollout.group_size

    async def group(i):
        engine = engines[i % len(engines)]
        return [rollout async for rollout in engine.generate(prompt_at(i), Sampling(size, i))]

    groups = await asyncio.gather(
        *(group(first + i) for i in range(config.rollout.prompts_per_step))
    )
    work = [scorer.score(prompt_at(first), rollout) for rollouts in groups for rollout in rollouts]
    scored = [await one for one in work] if one_by_one else await asyncio.gather(*work)
    for i in range(len(groups)):
        samples = scored[i * size : (i + 1) * size]
        advantages = tuple(group_advantages(comparable_totals(config, samples)))
        await learner.accumulate(Group(prompt_at(first + i), tuple(samples), advantages))
    version, _ = await learner.step()
    await asyncio.gather(*(engine.swap(version) for engine in engines))
    return loop.time() - start
