"""What follows a step, on fakes: which checkpoints are asked for, what a full disk and a dead
learner lead to.
"""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from cluster.jobs.grpo import AfterStep, restore
from geoagent_rl import config as configuration
from geoagent_rl import driver
from geoagent_rl.data.curriculum import Item, PromptOrder
from geoagent_rl.data.images import BadImage
from geoagent_rl.data.sample import Sample
from geoagent_rl.run import checkpoints
from geoagent_rl.run.directory import RunDir
from geoagent_rl.types import Group, InfraError, Outcome, PolicyVersion, ScoredRollout
from tests.support.driver_fakes import FakeEngine, prompt_at

HELD, BROKEN = (98, 99), 98  # the pictures that validation asks about


class Learner:
    """Saves at once; refuses steps it is not at, as the real one does; `full`: the disk is."""

    def __init__(self):
        self.number, self.full, self.problems, self.asked = 0, False, [], []

    async def accumulate(self, group: Group) -> None:
        pass

    async def step(self):
        self.number += 1
        return PolicyVersion(self.number, "checkpoint", ""), {}

    async def save(self, directory, notes, step):
        if step != self.number:
            raise InfraError(f"the learner is at step {self.number}, not {step}")
        self.asked.append(step)
        if self.full:
            self.problems.append("no space left on device")
        else:
            checkpoints.write_whole(RunDir(directory).path, lambda out: None, notes)
        return await self.save_problems()

    async def save_problems(self, wait=False):
        problems, self.problems = self.problems, []
        return problems

    async def load(self, directory):
        self.number = checkpoints.step_of(RunDir(directory).path)
        return PolicyVersion(self.number, "checkpoint", "")


class Scores:
    """Reward by policy version, from a list."""

    def __init__(self, rewards):
        self.rewards = rewards

    async def score(self, prompt, rollout):
        reward = self.rewards[rollout.version]
        details = {"lat": 0.0, "lon": 0.0, "level": "place"}
        return ScoredRollout(rollout, {"spatial": Outcome("score", reward, "", details)}, reward)


class Services:
    async def cache_metrics(self):
        return {}


class Plot:
    def write(self, *_):
        pass


class Engine(FakeEngine):
    """One held-out picture cannot be decoded."""

    async def generate(self, prompt, sampling):
        if prompt.uid == f"p{BROKEN}":
            raise BadImage(f"{prompt.image} is damaged", "unreadable")
        async for rollout in super().generate(prompt, sampling):
            yield rollout


async def go(tmp_path, learner, rewards, *overrides, resume=False, scores=None):
    """A run of 8 steps with validation after every second one; (run, AfterStep)."""
    words = [
        "data.manifest=x",
        "data.eval_manifest=y",
        f"run.dir={tmp_path}/run",
        "steps=8",
        "run.save_every=3",
    ]
    words += [
        "run.validate_every=2",
        "rollout.prompts_per_step=2",
        "rollout.group_size=2",
        *overrides,
    ]
    config = configuration.load(None, words)
    run, engine, scores = (
        RunDir(config.run.dir).begin(config),
        Engine(),
        (scores or Scores)(rewards),
    )
    first, prompt = await restore(learner, run) if resume else (0, 0)
    await engine.swap(PolicyVersion(first, "checkpoint", ""))
    stack = SimpleNamespace(engines=[engine], scorer=scores, services=Services())
    held = [Sample(f"p{i}", f"{i}.png", "Japan", "", "", 35.7, 139.7) for i in HELD]
    order = PromptOrder([Item(prompt_at(0))], 0), None
    reporting = held, {}, Plot(), {}, *order
    after = AfterStep(config, stack, run, learner, *reporting, first, prompt, *run.best())
    try:
        await driver.train(config, prompt_at, [engine], scores, learner, after.step, first, prompt)
    except BaseException:
        await after.save_on_the_way_out()
        raise
    await after.saved()
    return run, after


RISING = [0.0, 0.1, 0.9, 0.2, 0.3, 0.2, 0.4, 0.4, 0.4]


async def test_the_best_by_validation_is_saved_and_survives(tmp_path):
    run, _ = await go(tmp_path, Learner(), RISING, "run.keep_checkpoints=1")
    assert [p.name for p in run.checkpoints()] == ["step-000002", "step-000008"]
    assert (run.path / "checkpoints" / "best").resolve().name == "step-000002"
    found = {r["step"]: r.get("validation_reward") for r in run.rows("metrics.jsonl")}
    assert {step: reward for step, reward in found.items() if reward is not None} == {
        2: 0.9,
        4: 0.3,
        6: 0.4,
        8: 0.4,
    }


@pytest.mark.parametrize("died", [1, 2, 4, 5, 7])
async def test_a_resumed_run_marks_the_same_best_and_records_no_step_twice(tmp_path, died):
    class Dies(Learner):
        async def step(self):
            if self.number == died:
                self.save = self.save_problems = self.gone  # from now on
                raise InfraError("learner rank 0 died")
            return await super().step()

        async def gone(self, *_, **__):
            raise InfraError("learner rank 0 died")

    with pytest.raises(InfraError):
        await go(tmp_path, Dies(), RISING)
    run, _ = await go(tmp_path, Learner(), RISING, resume=True)
    assert [r["step"] for r in run.rows("metrics.jsonl")] == list(range(1, 9))
    assert [r["prompts"] for r in run.rows("metrics.jsonl")] == list(range(2, 17, 2))
    assert [r["step"] for r in run.rows("rollouts.jsonl")] == [
        s for s in range(1, 9) for _ in range(4)
    ]
    assert (run.path / "checkpoints" / "best").resolve().name == "step-000002"


async def test_a_full_disk_is_said_and_counted_and_the_run_goes_on(tmp_path, capsys):
    class Full(Learner):
        async def step(self):
            self.full = 4 <= self.number + 1 <= 7
            return await super().step()

    run, after = await go(tmp_path, Full(), RISING)
    assert "WARNING: a checkpoint could not be saved" in capsys.readouterr().err
    assert [r["unsaved_checkpoints"] for r in run.rows("metrics.jsonl")] == [0] * 6 + [
        1
    ] * 2 and after.unsaved == 1
    assert [p.name for p in run.checkpoints()] == ["step-000002", "step-000003", "step-000008"]


async def test_weights_that_are_ahead_of_the_records_are_not_saved(tmp_path, capsys):
    """A swap that fails comes after the optimizer's step: the step before it is what can be
    continued from.
    """

    class Fails(Learner):
        async def step(self):
            version, metrics = await super().step()
            if self.number == 5:
                raise InfraError("the engine did not take the weights")
            return version, metrics

    with pytest.raises(InfraError):
        await go(tmp_path, Fails(), RISING)
    assert "step 4 could not be saved: the learner is at step 5" in capsys.readouterr().err
    run, _ = await go(tmp_path, Learner(), RISING, resume=True)
    assert json.loads((run.path / "metrics.jsonl").read_text().splitlines()[3])["step"] == 4
    assert [r["step"] for r in run.rows("metrics.jsonl")] == list(range(1, 9))


async def test_a_part_that_fails_on_every_sample_is_loud(tmp_path, capsys):
    class Fails(Scores):
        async def score(self, prompt, rollout):
            scored = await super().score(prompt, rollout)
            own = {"own": Outcome("infra", None, "a bug")}
            return dataclasses.replace(scored, parts={**scored.parts, **own})

    await go(tmp_path, Learner(), RISING, scores=Fails)
    said = capsys.readouterr().err
    assert "the reward part own failed on every sample" in said and "part spatial" not in said
