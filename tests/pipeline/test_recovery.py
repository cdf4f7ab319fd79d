"""Engines and learners that die at random: the run goes on, and what it records holds every sample
exactly once.
"""

import asyncio
import dataclasses
import random
from unittest import mock

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoagent_rl import config as configuration
from geoagent_rl import driver, generation, recovery
from geoagent_rl.recovery import LearnerLost, RestartedEngine, restarting_learner
from geoagent_rl.types import InfraError, PolicyVersion, Sampling, UserError
from tests.support.driver_fakes import FakeEngine, FakeLearner, FakeScorer, prompt_at

SAVE_EVERY = 3


def settings(*overrides):
    base = ["data.manifest=x", "rollout.prompts_per_step=4", "rollout.group_size=4", "steps=8"]
    return configuration.load(None, [*base, *overrides])


class MortalEngine(FakeEngine):
    """One life: dies for good with probability `risk` at each completion and each swap."""

    def __init__(self, chance, risk):
        super().__init__(seconds=0.0)
        self.chance, self.risk, self.ended = chance, risk, False

    def live(self):
        self.dead = self.dead or self.chance.random() < self.risk
        if self.dead:
            raise InfraError("the actor is gone")

    async def generate(self, prompt, sampling):
        async for rollout in super().generate(prompt, sampling):
            self.live()
            yield rollout

    async def swap(self, version):
        self.live()
        return await super().swap(version)

    async def check(self):
        if self.dead:
            raise InfraError("the actor is gone")

    async def end(self):
        self.ended = True


def mortal_engine(name, chance, risk, max_restarts, lives):
    async def start(life):
        await asyncio.sleep(0.001)
        if chance.random() < risk:
            raise InfraError("did not start")
        lives.append(MortalEngine(chance, risk))
        return lives[-1]

    lives.append(MortalEngine(chance, risk))
    return RestartedEngine(name, lives[-1], start, max_restarts)


class MortalLearner(FakeLearner):
    def __init__(self, chance, risk, number):
        super().__init__()
        self.chance, self.risk, self.number = chance, risk, number

    def live(self):
        if self.chance.random() < self.risk:
            raise LearnerLost("rank 1 died")

    async def accumulate(self, group):
        self.live()
        ages = {self.number - s.rollout.version for s in group.samples}
        assert ages <= {0, 1, 2}
        await super().accumulate(group)

    async def step(self):
        self.live()
        return await super().step()


async def train(config, engines, chance, risk):
    """Runs as cluster.jobs.stages.reinforce does: steps are recorded, every SAVE_EVERY-th is a
    checkpoint. The record.
    """
    record, saved = [], [(0, 0)]  # (step, prompts taken)

    async def attempt(life):
        (first, prompt), learner = saved[-1], MortalLearner(chance, risk, saved[-1][0])
        del record[first:]
        if life:
            await asyncio.gather(
                *(e.swap(PolicyVersion(first, "checkpoint", "nowhere")) for e in engines)
            )

        async def on_step(step, metrics, groups):
            record.append(
                [
                    (s.rollout.uid, s.rollout.index, s.rollout.text)
                    for g in groups
                    for s in g.samples
                ]
            )
            if step % SAVE_EVERY == 0:
                saved.append((step, metrics["prompts"]))

        await driver.train(
            config, prompt_at, engines, FakeScorer(), learner, on_step, first, prompt
        )

    await restarting_learner(attempt, max_restarts=1000)
    return record


@hypothesis.settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    engines=st.integers(1, 3),
    staleness=st.integers(0, 2),
    risk=st.floats(0.001, 0.05),
)
def test_no_sample_is_lost_or_trained_twice_whatever_dies(seed, engines, staleness, risk):
    chance, lives, config = random.Random(seed), [], settings(f"max_staleness={staleness}")
    calm = asyncio.run(train(config, [FakeEngine()], random.Random(0), risk=0.0))

    async def stormy():
        mortal = [mortal_engine(f"engine {i}", chance, risk, 1000, lives) for i in range(engines)]
        record = await train(config, mortal, chance, risk)
        for engine in mortal:
            await engine.close()
        assert len(asyncio.all_tasks()) == 1
        return record

    with mock.patch.object(generation, "ATTEMPTS", 1000):
        record = asyncio.run(stormy())
    assert record == calm  # the same samples by the same seeds, each once, in the same steps
    assert all(life.ended for life in lives)


async def test_the_others_go_on_while_one_engine_is_started_again():
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow_start(life):
        begun.set()
        await release.wait()
        return MortalEngine(random.Random(0), 0.0)

    dying = MortalEngine(random.Random(0), 0.0)
    dying.dead = True
    restarted = RestartedEngine("engine 0", dying, slow_start, 1)
    other = RestartedEngine("engine 1", MortalEngine(random.Random(0), 0.0), slow_start, 1)
    rows = []

    async def on_step(step, metrics, groups):
        rows.append(step)
        if step == 5:
            assert begun.is_set() and not restarted.up
            release.set()

    learner = FakeLearner()
    await driver.train(settings(), prompt_at, [restarted, other], FakeScorer(), learner, on_step)
    assert [g.prompt.uid for _, g in learner.groups] == [f"p{i}" for i in range(32)]
    await restarted.ready()
    assert restarted.engine.version == 8  # missed swaps and has the newest weights


async def test_a_node_that_dies_with_several_engines_is_no_reason_to_stop():
    """The idle ones have told nobody: the prompt that was under way there must not use up its
    attempts on them.
    """

    class OnNode(MortalEngine):
        async def generate(self, prompt, sampling):
            async for rollout in super().generate(prompt, sampling):
                if prompt.uid == "p0":
                    await others_are_done.wait()
                    for engine in node:
                        engine.dead = True
                yield rollout

    async def start(life):
        return MortalEngine(random.Random(0), 0.0)

    class Scorer(FakeScorer):
        async def score(self, prompt, rollout):
            scored = await super().score(prompt, rollout)
            if len(self.seen) == 12:
                others_are_done.set()
            return scored

    others_are_done, learner = asyncio.Event(), FakeLearner()
    node = [OnNode(random.Random(0), 0.0) for _ in range(4)]
    elsewhere = [MortalEngine(random.Random(0), 0.0) for _ in range(2)]
    engines = [
        RestartedEngine(f"engine {i}", engine, start, 5)
        for i, engine in enumerate([*node, *elsewhere])
    ]

    async def on_step(step, metrics, groups):
        pass

    await driver.train(settings(), prompt_at, engines, Scorer(), learner, on_step)
    assert [g.prompt.uid for _, g in learner.groups] == [f"p{i}" for i in range(32)]
    assert [e.restarts.done for e in engines] == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("where", ["generate", "swap"])
async def test_used_up_restarts_end_the_run_and_say_which_setting_it_was(where):
    lives, chance = [], random.Random(1)
    engine = mortal_engine("rollout engine 0", chance, 0.0, 2, lives)

    async def start(life):
        lives.append(MortalEngine(chance, 1.0))
        return lives[-1]

    engine.start, lives[0].risk = start, 1.0
    with pytest.raises(
        InfraError,
        match="rollout engine 0 is lost after 2 restarts within an hour .rollout.max_restarts",
    ):
        if where == "swap":
            await engine.swap(PolicyVersion(1, "checkpoint", "nowhere"))
            await engine.ready()
        else:
            with mock.patch.object(generation, "ATTEMPTS", 1000):
                await driver.train(
                    settings(), prompt_at, [engine], FakeScorer(), FakeLearner(), None
                )
    assert engine.restarts.done == 2


async def test_a_learner_that_dies_for_ever_ends_the_run_and_says_which_setting_it_was():
    lives = []

    async def attempt(life):
        lives.append(life)
        raise LearnerLost("learner rank 1 died in 'step'")

    with pytest.raises(
        InfraError,
        match="lost after 2 restarts within an hour .learner.max_restarts.; .*: learner rank",
    ):
        await restarting_learner(attempt, 2)
    assert lives == [0, 1, 2]


async def test_an_engine_that_lives_is_not_started_again_for_a_prompt_that_fails():
    engine = RestartedEngine("engine 0", MortalEngine(random.Random(0), 0.0), None, 1)
    engine.engine.fails_once = {"p3"}
    learner = FakeLearner()

    async def on_step(step, metrics, groups):
        pass

    await driver.train(settings(), prompt_at, [engine], FakeScorer(), learner, on_step)
    assert len(learner.groups) == 32 and engine.restarts.done == 0


async def test_a_new_life_takes_the_base_before_the_adapter():
    async def start(life):
        return MortalEngine(random.Random(0), 0.0)

    engine = RestartedEngine("engine 0", MortalEngine(random.Random(0), 0.0), start, 1)
    base = PolicyVersion(0, "checkpoint", "sft")
    await engine.swap(base)
    await engine.swap(dataclasses.replace(base, number=1, kind="adapter"))
    engine.engine.dead = True
    engine.failed(InfraError("gone"))
    await engine.ready()
    assert engine.engine.swaps == [0, 1] and engine.restarts.done == 1


async def test_an_engine_knows_how_many_completions_it_owes():
    engine = RestartedEngine("engine 0", FakeEngine(), None, 0)
    prompt, sampling = prompt_at(0), Sampling(4, 0)
    given = engine.generate(prompt, sampling)
    assert engine.under_way == 0
    owed = [engine.under_way async for _ in given]
    assert owed == [3, 2, 1, 0] and engine.under_way == 0
    abandoned = engine.generate(prompt, sampling)
    await anext(abandoned)
    await abandoned.aclose()
    assert engine.under_way == 0


async def run_past(engine, steps=4, **settings_):
    """The groups of every step of a run with one engine."""
    groups = []

    async def on_step(step, metrics, of_step):
        groups.append(list(of_step))

    config = settings(f"steps={steps}", "reward.max_unscorable_share=0.9")
    await driver.train(config, prompt_at, [engine], FakeScorer(), FakeLearner(), on_step)
    return groups


async def test_a_prompt_that_kills_engines_costs_itself_only():
    lives, chance = [], random.Random(1)

    class Poisoned(MortalEngine):
        async def generate(self, prompt, sampling):
            if prompt.uid == "p5":
                self.dead = True
            async for rollout in super().generate(prompt, sampling):
                yield rollout

    async def start(life):
        lives.append(Poisoned(chance, 0.0))
        return lives[-1]

    engine = RestartedEngine("engine 0", await start(0), start, 5)
    groups = [group for step in await run_past(engine) for group in step]
    lost = [group for group in groups if group.lost]
    assert [group.prompt.uid for group in lost] == ["p5"] and not lost[0].samples
    assert "no engine completed it in 3 attempts" in lost[0].reason
    assert len(groups) == 4 * settings().rollout.prompts_per_step
    assert all(group.samples for group in groups if not group.lost)


async def test_prompts_that_are_lost_count_as_unscorable():
    engine = FakeEngine()

    async def generate(prompt, sampling):
        raise InfraError("it always dies")
        yield

    engine.generate = generate
    with pytest.raises(UserError, match=r"100% .* could not be scored.*no engine completed"):
        await driver.train(
            settings(), prompt_at, [engine], FakeScorer(), FakeLearner(), nothing_more
        )


async def nothing_more(step, metrics, groups):
    pass


async def test_a_slow_score_is_not_a_slow_engine():
    """Scoring has a deadline of its own: nothing is generated again, the sample is unscorable."""

    class Slow(FakeScorer):
        async def score(self, prompt, rollout):
            await asyncio.sleep(0.3)
            return await super().score(prompt, rollout)

    engine = FakeEngine()
    config = settings("steps=1", "rollout.timeout_s=0.2")
    await driver.train(config, prompt_at, [engine], Slow(), FakeLearner(), nothing_more)
    assert len(engine.started) == config.rollout.prompts_per_step


async def test_a_recovery_that_fails_by_a_bug_is_no_engine_that_is_up():
    class Broken(MortalEngine):
        async def check(self):
            raise RuntimeError("a bug")

    started = []

    async def start(life):
        started.append(life)
        raise RuntimeError("another bug")

    engine = RestartedEngine("engine 0", Broken(random.Random(0), 0.0), start, 3)
    engine.failed(InfraError("no answer"))
    with pytest.raises(InfraError, match="its recovery failed: RuntimeError.'another bug'"):
        await engine.ready()
    assert started == [1] and not engine.up


def test_restarts_are_counted_within_an_hour(monkeypatch):
    now = 0.0
    monkeypatch.setattr(recovery.time, "monotonic", lambda: now)
    restarts = recovery.Restarts(2)
    assert [restarts.take() for _ in range(3)] == [True, True, False]
    now = 3601.0
    assert restarts.take() and restarts.done == 3
