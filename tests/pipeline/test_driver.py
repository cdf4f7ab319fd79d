"""What the driver promises, shown on fakes: order, staleness, retries, no lost sample, where the
time goes.
"""

import asyncio
import dataclasses
import gc
import resource

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoagent_rl import config as configuration
from geoagent_rl import driver, generation
from geoagent_rl.data.images import BadImage
from geoagent_rl.types import UserError
from tests.support.driver_fakes import FakeEngine, FakeLearner, FakeScorer, prompt_at


def settings(*overrides):
    base = ["data.manifest=x", "rollout.prompts_per_step=4", "rollout.group_size=4", "steps=5"]
    return configuration.load(None, [*base, *overrides])


async def run(config, engines, scorer, learner):
    rows = []

    async def on_step(step, metrics, groups):
        rows.append(metrics)

    await driver.train(config, prompt_at, engines, scorer, learner, on_step)
    return rows


async def test_every_prompt_is_trained_once_and_in_order():
    learner, scorer = FakeLearner(), FakeScorer()
    await run(settings(), [FakeEngine(0.001), FakeEngine(0.0)], scorer, learner)
    assert [g.prompt.uid for _, g in learner.groups] == [f"p{i}" for i in range(20)]
    assert len(scorer.seen) == len(set(scorer.seen)) == 80
    assert all([s.rollout.index for s in g.samples] == [0, 1, 2, 3] for _, g in learner.groups)


ONE_PART = ["reward.weights.semantic=0", "reward.weights.consistency=0", "reward.weights.format=0"]


@pytest.mark.parametrize("kind", ["none", "batch", "gdpo"])
async def test_advantages_of_every_kind_keep_the_order_within_a_group(kind):
    learner = FakeLearner()
    config = settings(f"learner.advantage={kind}", *ONE_PART)
    await run(config, [FakeEngine(0.001)], FakeScorer(unscorable=0.1), learner)
    assert len(learner.groups) == 20
    for _, group in learner.groups:
        known = [
            (s.total, a)
            for s, a in zip(group.samples, group.advantages, strict=True)
            if s.total is not None
        ]
        assert [a for _, a in sorted(known)] == sorted(a for _, a in known)
        assert all(
            a == 0.0
            for s, a in zip(group.samples, group.advantages, strict=True)
            if s.total is None
        )


@pytest.mark.parametrize("staleness", [0, 1, 2])
async def test_staleness_is_bounded_by_one_integer(staleness):
    learner = FakeLearner(0.001)
    await run(settings(f"max_staleness={staleness}"), [FakeEngine(0.001)], FakeScorer(), learner)
    ages = {number - s.rollout.version for number, g in learner.groups for s in g.samples}
    assert max(ages) == staleness and min(ages) >= 0


async def test_a_dead_engine_costs_no_sample():
    learner = FakeLearner()
    engines = [FakeEngine(dead=True), FakeEngine(fails_once=frozenset({"p3", "p7"}))]
    await run(settings(), engines, FakeScorer(), learner)
    assert [g.prompt.uid for _, g in learner.groups] == [f"p{i}" for i in range(20)]


async def test_no_living_engine_ends_with_a_clear_error_and_no_task_left():
    with pytest.raises(UserError, match="no engine completed it in 3 attempts"):
        await run(settings(), [FakeEngine(dead=True)], FakeScorer(), FakeLearner())
    assert len(asyncio.all_tasks()) == 1


async def test_unscorable_samples_have_no_advantage_and_do_not_change_the_others():
    learner = FakeLearner()
    await run(
        settings("reward.max_unscorable_share=1"),
        [FakeEngine()],
        FakeScorer(unscorable=0.3),
        learner,
    )
    for _, group in learner.groups:
        scored = [s.total for s in group.samples if s.total is not None]
        assert all(
            a == 0 for a, s in zip(group.advantages, group.samples, strict=True) if s.total is None
        )
        assert abs(sum(group.advantages)) < 1e-6
        if len(scored) > 1:
            assert any(group.advantages)


async def test_too_many_unscorable_samples_stop_the_run_with_the_reason():
    with pytest.raises(UserError, match="max_unscorable_share.*geocoder timed out"):
        await run(settings(), [FakeEngine()], FakeScorer(unscorable=0.9), FakeLearner())


async def test_slow_rewards_show_as_exposed_time_and_staleness_hides_them():
    slow = {"engines": [FakeEngine(0.002)], "scorer": FakeScorer(0.1), "learner": FakeLearner(0.02)}
    on_policy = await run(settings(), **slow)
    ahead = await run(
        settings("max_staleness=2"), [FakeEngine(0.002)], FakeScorer(0.1), FakeLearner(0.02)
    )
    assert sum(r["reward_exposed_seconds"] for r in on_policy) > 0.3
    steady = slice(1, None)
    assert sum(r["reward_exposed_seconds"] for r in ahead[steady]) < 0.5 * sum(
        r["reward_exposed_seconds"] for r in on_policy[steady]
    )


@pytest.mark.parametrize("staleness", [1, 2])
async def test_steps_are_shorter_ahead_of_slow_rewards(staleness):
    """Each step's work is the same; what one had to wait for, the next ones do meanwhile."""

    async def wall(ahead):
        config = settings(f"max_staleness={ahead}", "steps=8")
        rows = await run(config, [FakeEngine(0.005)], FakeScorer(0.15), FakeLearner(0.02))
        return sum(row["step_seconds"] for row in rows[2:-2])

    assert await wall(staleness) < 0.7 * await wall(0)


async def test_times_add_up():
    for row in await run(settings(), [FakeEngine(0.002)], FakeScorer(0.01), FakeLearner(0.002)):
        parts = (
            "learn_busy_seconds",
            "swap_seconds",
            "reward_exposed_seconds",
            "rollout_wait_seconds",
        )
        assert sum(row[p] for p in parts) == pytest.approx(row["step_seconds"], abs=1e-6)
        assert row["bound_seconds"] <= row["step_seconds"] and 0 < row["efficiency"] <= 1


async def test_a_resumed_run_starts_the_same_prompts_with_the_same_seeds():
    whole, rest = FakeLearner(), FakeLearner()
    await run(settings(), [FakeEngine()], FakeScorer(), whole)

    async def on_step(step, metrics, groups):
        pass

    await driver.train(
        settings(), prompt_at, [FakeEngine()], FakeScorer(), rest, on_step, first_step=3
    )
    texts = [[s.rollout.text for s in g.samples] for _, g in whole.groups]
    assert [[s.rollout.text for s in g.samples] for _, g in rest.groups] == texts[12:]


async def test_memory_is_flat_over_200_steps():
    peaks = []

    async def on_step(step, metrics, groups):
        if step in (50, 200):
            gc.collect()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    class Forgetful(FakeLearner):
        async def accumulate(self, group):
            pass

    class ForgetfulScorer(FakeScorer):
        async def score(self, prompt, rollout):
            self.seen.clear()
            return await super().score(prompt, rollout)

    await driver.train(
        settings("steps=200"), prompt_at, [FakeEngine()], ForgetfulScorer(), Forgetful(), on_step
    )
    assert peaks[1] < 1.05 * peaks[0]


async def test_a_picture_that_cannot_be_decoded_costs_one_prompt_not_the_run():
    class Picky(FakeEngine):
        async def generate(self, prompt, sampling):
            if prompt.uid == "p5":
                raise BadImage("unreadable", "p5.png is damaged")
            async for rollout in super().generate(prompt, sampling):
                yield rollout

    learner = FakeLearner()
    rows = await run(settings(), [Picky()], FakeScorer(), learner)
    assert [len(g.samples) for _, g in learner.groups] == [0 if i == 5 else 4 for i in range(20)]
    assert [r["bad_image_share"] for r in rows] == [0, 0.25, 0, 0, 0]


async def test_storage_that_a_node_does_not_see_stops_the_run():
    """The engine there gives no samples at all, so nothing is unscorable."""

    class Blind(FakeEngine):
        async def generate(self, prompt, sampling):
            if int(prompt.uid[1:]) % 4 == 1:
                raise BadImage("no such image file", "missing")
            async for rollout in super().generate(prompt, sampling):
                yield rollout

    learner = FakeLearner()
    with pytest.raises(
        UserError, match="25% of the last 5 steps' pictures could not be opened.*/images/17.png"
    ):
        await run(settings("steps=20"), [Blind()], FakeScorer(), learner)
    assert learner.number == 5


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"train_tokens": 9.0, "grad_norm": 7.0}, "norm is 7, above learner.skip_grad_norm=2"),
        ({"train_tokens": 9.0}, "not finite"),
        ({"train_tokens": 0.0, "grad_norm": 0.0}, "no sample is learnt from"),
    ],
)
async def test_steps_that_change_nothing_for_ever_stop_the_run(metrics, says):
    class Stuck(FakeLearner):
        async def step(self):
            version, _ = await super().step()
            return version, {**metrics, "step_skipped": float(self.number != 4)}

    learner = Stuck()
    with pytest.raises(UserError, match=f"10 steps in a row changed nothing; .*{says}"):
        await run(
            settings("steps=50", "learner.skip_grad_norm=2"), [FakeEngine()], FakeScorer(), learner
        )
    assert learner.number == 14  # one that did in between begins the count again


async def test_a_step_that_has_begun_is_finished_before_a_run_stops():
    learner, recorded, stepping = FakeLearner(), [], asyncio.Event()

    class Slow(FakeLearner):
        async def step(self):
            stepping.set()
            await asyncio.sleep(0.05)
            return await super().step()

    async def on_step(step, metrics, groups):
        recorded.append(step)

    learner = Slow()
    task = asyncio.create_task(
        driver.train(settings(), prompt_at, [FakeEngine()], FakeScorer(), learner, on_step)
    )
    await stepping.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorded == [1] and learner.number == 1


class Equal(FakeScorer):
    """Every completion of the prompts for which `dull` holds gets the same reward."""

    def __init__(self, dull):
        super().__init__()
        self.dull = dull

    async def score(self, prompt, rollout):
        scored = await super().score(prompt, rollout)
        return dataclasses.replace(scored, total=1.0) if self.dull(int(prompt.uid[1:])) else scored


def odd(i: int) -> bool:
    return i % 2 == 1


async def test_dynamic_sampling_takes_further_prompts_for_groups_without_advantage():
    learner = FakeLearner()
    rows = await run(settings("rollout.dynamic_sampling=true"), [FakeEngine()], Equal(odd), learner)
    assert [g.prompt.uid for _, g in learner.groups] == [f"p{i}" for i in range(0, 40, 2)]
    assert [number for number, _ in learner.groups] == [i // 4 for i in range(20)]
    assert [r["prompts"] for r in rows] == [7, 15, 23, 31, 39]  # p7 is the first that step 2 takes
    assert rows[0]["zero_variance_share"] == pytest.approx(
        3 / 7
    )  # what was dropped is still measured


async def test_without_dynamic_sampling_nothing_is_dropped():
    learner = FakeLearner()
    rows = await run(settings(), [FakeEngine()], Equal(odd), learner)
    assert [g.prompt.uid for _, g in learner.groups] == [f"p{i}" for i in range(20)]
    assert [r["prompts"] for r in rows] == [4, 8, 12, 16, 20]


@pytest.mark.parametrize("staleness", [0, 1, 2])
async def test_refills_are_bounded_and_the_run_goes_on(staleness):
    learner, engine = FakeLearner(), FakeEngine(0.001)
    asked = settings(
        "rollout.dynamic_sampling=true", "rollout.max_refills=2", f"max_staleness={staleness}"
    )
    rows = await run(asked, [engine], Equal(lambda i: i < 9), learner)
    assert [r["prompts"] for r in rows] == [6, 12, 16, 20, 24]
    assert [g.prompt.uid for number, g in learner.groups if number < 2] == ["p9", "p10", "p11"]
    assert len(learner.groups) == 15 and len(engine.started) == 24


@pytest.mark.parametrize("staleness", [0, 1, 2])
async def test_dynamic_sampling_keeps_the_staleness_and_takes_every_prompt_once(staleness):
    ages, learner = [], FakeLearner(0.001)
    engines = [FakeEngine(0.001), FakeEngine(0.0)]

    async def on_step(step, metrics, groups):
        taken.extend(g.prompt.uid for g in groups)
        ages.extend(step - 1 - s.rollout.version for g in groups for s in g.samples)

    taken = []
    asked = settings(
        "rollout.dynamic_sampling=true",
        "rollout.max_refills=3",
        f"max_staleness={staleness}",
        "steps=12",
    )
    await driver.train(asked, prompt_at, engines, Equal(lambda i: i % 7 > 2), learner, on_step)
    assert taken == [f"p{i}" for i in range(len(taken))]
    assert sum(len(e.started) for e in engines) == len(taken)
    assert max(ages) == staleness and min(ages) >= 0


async def test_a_resumed_run_with_dynamic_sampling_repeats_the_uninterrupted_one():
    asked, whole, rest = settings("rollout.dynamic_sampling=true"), FakeLearner(), FakeLearner()
    rows = await run(asked, [FakeEngine()], Equal(odd), whole)

    async def on_step(step, metrics, groups):
        again.append(metrics["prompts"])

    again = []
    await driver.train(
        asked, prompt_at, [FakeEngine()], Equal(odd), rest, on_step, 3, rows[2]["prompts"]
    )
    texts = [[s.rollout.text for s in g.samples] for _, g in whole.groups]
    assert [[s.rollout.text for s in g.samples] for _, g in rest.groups] == texts[12:]
    assert again == [r["prompts"] for r in rows[3:]]


@hypothesis.settings(max_examples=20, deadline=None)
@given(dull=st.sets(st.integers(0, 50)), refills=st.integers(1, 6), stop=st.integers(1, 4))
def test_wherever_a_run_with_dynamic_sampling_is_cut_it_goes_on_the_same(dull, refills, stop):
    asked = settings("rollout.dynamic_sampling=true", f"rollout.max_refills={refills}")

    def steps(first, last, prompt):
        """(prompts taken, trained completions) of each step."""
        rows, learner = [], FakeLearner()

        async def on_step(step, metrics, groups):
            rows.append(
                (metrics["prompts"], [s.rollout.text for _, g in learner.groups for s in g.samples])
            )
            learner.groups.clear()

        config = dataclasses.replace(asked, steps=last)
        scorer = Equal(dull.__contains__)
        asyncio.run(
            driver.train(config, prompt_at, [FakeEngine()], scorer, learner, on_step, first, prompt)
        )
        return rows

    whole, begun = steps(0, 5, 0), steps(0, stop, 0)
    assert begun + steps(stop, 5, begun[-1][0]) == whole
    before = [0, *[prompts for prompts, _ in whole]]
    assert all(4 <= b - a <= 4 + refills for a, b in zip(before, before[1:], strict=False))


async def test_dynamic_sampling_replaces_pictures_that_cannot_be_decoded():
    class Picky(FakeEngine):
        async def generate(self, prompt, sampling):
            if prompt.uid == "p1":
                raise BadImage("unreadable", "p1.png is damaged")
            async for rollout in super().generate(prompt, sampling):
                yield rollout

    learner = FakeLearner()
    await run(
        settings("rollout.dynamic_sampling=true", "steps=1"), [Picky()], FakeScorer(), learner
    )
    assert [g.prompt.uid for _, g in learner.groups] == ["p0", "p2", "p3", "p4"]


async def test_prompts_go_to_the_engine_with_the_least_under_way():
    """Equal ones take turns; one that has just failed comes last."""
    idle, busy, other = FakeEngine(), FakeEngine(), FakeEngine()
    busy.under_way = 8
    chosen = [await generation.first_up([busy, idle, other], turn) for turn in range(4)]
    assert chosen == [idle, idle, other, idle]
    assert await generation.first_up([busy, idle, other], 1, [idle, other]) is busy
