"""Engines, reward services and a learner that only take time, for the real driver and the real
scorer.

Times are those of the cost model that `plan` has (geoagent_rl/plan/costs.py); what is real here is
the schedule: the driver, the scorer, who learns what and how rows are filled."""

import asyncio
import heapq
import math
import random
from types import SimpleNamespace

from actors.learner_group import groups_together
from geoagent_rl.credit import comparable_totals
from geoagent_rl.grpo.advantages import group_advantages
from geoagent_rl.grpo.balance import assign
from geoagent_rl.grpo.batching import Layout, micro_batches, padded_tokens, row_length
from geoagent_rl.grpo.samples import train_group
from geoagent_rl.plan.costs import PACKED_ROWS, Costs
from geoagent_rl.plan.memory import sequences
from geoagent_rl.plan.resources import judges_share_gpus
from geoagent_rl.plan.schedule import SIGMA
from geoagent_rl.rewards.services import Services, Similarity, Verdict
from geoagent_rl.types import Group, PolicyVersion, Prompt, Rollout, Sampling, Truth
from tests.support.reward_fakes import completion
from tests.support.simulated_costs import Latency

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


def prompt_at(i: int) -> Prompt:
    return Prompt(f"p{i}", f"/{i}.jpg", TRUTH)


class Engine:
    """Continuous batching: every sequence under way gets a token in each step, which takes what the
    cost model says of that many."""

    def __init__(self, costs: Costs) -> None:
        self.costs, self.version, self.up, self.under_way = costs, 0, True, 0
        self.running: list[tuple[float, int, asyncio.Future]] = []  # (step of its end, ...) heap
        self.waiting: list[tuple[int, asyncio.Future]] = []
        self.at, self.number, self.produced = 0.0, 0, 0.0
        self.news, self.turn = asyncio.Event(), asyncio.Lock()
        self.blocked_until, self.busy_s, self.asleep = 0.0, 0.0, False
        self.loop = asyncio.get_running_loop()
        self.decoding = self.loop.create_task(self.decode())

    async def decode(self):
        limit = sequences(self.costs.config, self.costs.policy)
        while True:
            while self.waiting and len(self.running) < limit:
                length, future = self.waiting.pop(0)
                self.number += 1
                heapq.heappush(self.running, (self.at + length, self.number, future))
            self.news.clear()
            if not self.running:
                await self.news.wait()
                continue
            count, steps = len(self.running), self.running[0][0] - self.at
            cached = count * self.costs.lengths.prompt + self.produced + count * steps / 2
            token = self.costs.engine_token(count, cached)
            begin = self.loop.time()
            blocked = max(0.0, self.blocked_until - begin)
            try:
                await asyncio.wait_for(self.news.wait(), blocked + steps * token)
                done = min(steps, max(0.0, self.loop.time() - begin - blocked) / token)
            except TimeoutError:
                done = steps
            self.busy_s += done * token
            self.at += done
            self.produced += done * count
            while self.running and self.running[0][0] <= self.at + 1e-6:
                self.produced -= self.produced / len(self.running)
                heapq.heappop(self.running)[2].set_result(None)

    def block(self, seconds: float) -> None:
        """Others have its GPUs for a while."""
        self.blocked_until = max(self.blocked_until, self.loop.time() + seconds)
        self.news.set()

    async def complete(self, uid, index, seed, asked):
        r, chance = self.costs.config.rollout, random.Random(f"{seed}/{index}")
        median = self.costs.lengths.completion * math.exp(-(SIGMA**2) / 2)
        length = max(1, min(r.max_tokens, round(median * math.exp(chance.gauss(0, SIGMA)))))
        version, ended = self.version, self.loop.create_future()
        self.waiting.append((length, ended))
        self.news.set()
        await ended
        self.under_way -= 1
        spans = {"submitted": asked, "generated": self.loop.time()}
        prompt = (1,) * round(self.costs.lengths.prompt)
        return Rollout(uid, index, prompt, (2,) * length, (), TEXT, "stop", version, spans)

    async def generate(self, prompt, sampling):
        assert not self.asleep
        asked = self.loop.time()
        self.under_way += sampling.n
        async with self.turn:
            seconds = self.costs.engine_prompt()
            self.busy_s += seconds
            self.block(seconds)
            await asyncio.sleep(seconds)
        work = [self.complete(prompt.uid, i, sampling.seed, asked) for i in range(sampling.n)]
        for finished in asyncio.as_completed(work):
            yield await finished

    async def sleep(self):
        await asyncio.sleep(self.costs.sleep())
        self.asleep = True

    async def swap(self, version):
        begin = self.loop.time()
        await asyncio.sleep(self.costs.swap() + (self.costs.wake() if self.asleep else 0.0))
        self.version, self.asleep = version.number, False
        return self.loop.time() - begin

    async def ready(self):
        pass

    async def answers(self):
        return True

    def failed(self, problem):
        raise problem


class Judge:
    """One replica: answers what has come meanwhile in one batch, at most so many at once. engine:
    whose GPUs it shares, which stands still meanwhile."""

    def __init__(self, costs: Costs, engine: Engine | None) -> None:
        self.costs, self.engine, self.busy_s, self.under_way = costs, engine, 0.0, 0
        self.asked: list[asyncio.Future] = []
        self.news, self.loop = asyncio.Event(), asyncio.get_running_loop()
        self.answering = self.loop.create_task(self.answer())

    async def answer(self):
        while True:
            await self.news.wait()
            most = self.costs.config.judge.max_num_seqs
            batch, self.asked = self.asked[:most], self.asked[most:]
            seconds = self.costs.judge_batch(len(batch))
            if self.engine is not None:
                self.engine.block(seconds)
            self.busy_s += seconds
            await asyncio.sleep(seconds)
            self.under_way -= len(batch)
            for future in batch:
                future.set_result(None)
            if not self.asked:
                self.news.clear()

    def ask(self, count: int) -> list[asyncio.Future]:
        futures = [self.loop.create_future() for _ in range(count)]
        self.asked += futures
        self.under_way += count
        self.news.set()
        return futures


class Rewards:
    """Geocoder, semantic service and judge."""

    def __init__(self, costs: Costs, latency: Latency, engines=(), seed: int = 0) -> None:
        j, parallel = costs.config.judge, costs.config.rollout.tensor_parallel
        self.costs, self.latency, self.chance = costs, latency, random.Random(seed)
        self.geocoders = asyncio.Semaphore(latency.geocode_at_once)
        self.judges_at_once = asyncio.Semaphore(latency.judge_at_once)
        shared = judges_share_gpus(costs.config)
        of = [engines[i // parallel] if shared else None for i in range(j.replicas)]
        self.judges = [Judge(costs, engine) for engine in of] if latency.judge_s is None else []
        self.services = Services(self, self, self)

    async def take(self, room, seconds):
        async with room:
            await asyncio.sleep(seconds)

    async def geocode(self, addresses):
        times = [max(0.0, self.chance.gauss(*self.latency.geocode_s)) for _ in addresses]
        await asyncio.gather(*(self.take(self.geocoders, seconds) for seconds in times))
        return [PLACE] * len(addresses)

    async def similarities(self, pairs):
        return [Similarity(self.chance.random(), "encoder") for _ in pairs]

    async def same_place(self, pairs):
        return [pair.a == pair.b for pair in pairs]

    async def judge(self, items):
        if self.latency.judge_s is not None:
            each = (self.take(self.judges_at_once, self.latency.judge_s) for _ in items)
            await asyncio.gather(*each)
        else:
            await asyncio.sleep(self.costs.gpu.rates.call_s)
            least = min(self.judges, key=lambda judge: judge.under_way)
            await asyncio.gather(*least.ask(len(items)))
        return [Verdict(item.reasoning.split(":")[0], 0.0) for item in items]


class Learner:
    """Ranks that each have a queue of calls and wait for one another at the step only."""

    def __init__(self, costs: Costs, further_passes: int = 0) -> None:
        c, packed = costs.config.learner, PACKED_ROWS
        self.passes = 1 + further_passes / costs.passes
        self.costs, self.number, self.samples = costs, 0, 0
        self.layout = Layout(c.micro_batch_tokens, costs.balance, c.share_prompts, True, packed)
        self.together, self.waiting, self.groups = groups_together(costs.config), [], 0
        self.loads, self.free = [0.0] * c.ranks, [0.0] * c.ranks
        self.busy, self.looked = [0.0] * c.ranks, [set() for _ in range(c.ranks)]
        self.loop = asyncio.get_running_loop()

    async def accumulate(self, group):
        self.samples += len(group.samples)
        self.waiting.append(train_group(group).samples())
        if len(self.waiting) >= self.together:
            await self.learn()

    async def learn(self):
        groups, self.waiting = self.waiting, []
        samples = [s for group in groups for s in group]
        self.groups += len(groups)
        last = self.groups >= self.costs.config.rollout.prompts_per_step
        before = self.loads
        shares, self.loads = assign(
            samples, before, self.layout.balance, self.layout.share, cut=last
        )
        now = self.loop.time() + self.costs.handout(len(samples))
        for rank, share in enumerate(shares):
            seconds = self.seconds(rank, share, self.loads[rank] - before[rank])
            self.busy[rank] += seconds
            self.free[rank] = max(self.free[rank], now) + seconds
        await asyncio.sleep(max(self.free) - self.loop.time())

    def seconds(self, rank, share, load):
        if not share:
            return 0.0
        batches = micro_batches(share, self.layout)
        padded = sum(padded_tokens(rows, self.layout) for rows in batches)
        blocks = sum(row_length(row) for rows in batches for row in rows)
        again = blocks - sum(len(s.completion_ids) for s in share)
        again -= sum({s.image: len(s.prompt_ids) for s in share}.values())
        completion = sum(len(s.completion_ids) for s in share)
        new = {s.image for s in share} - self.looked[rank]
        self.looked[rank] |= new
        learning = self.costs.learn(load + padded - blocks + again, completion)
        passing = learning + self.costs.host(len(batches))
        return self.passes * passing + self.costs.look(len(new))

    async def step(self):
        if self.waiting:
            await self.learn()
        await asyncio.sleep(self.costs.reduce() + self.costs.optimizer() + self.costs.publish())
        self.number, self.groups = self.number + 1, 0
        self.loads = [0.0] * len(self.loads)
        self.looked = [set() for _ in self.looked]
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
