"""The same GPUs for engines, learner and judges: they never work at the same time, and the numbers
are those of GPUs of their own.
"""

import pytest

from geoagent_rl import driver
from geoagent_rl.colocate import ColocatedLearner, ScorerAfterRollout
from geoagent_rl.config import load
from geoagent_rl.types import UserError
from tests.support.driver_fakes import FakeEngine, FakeLearner, FakeScorer, prompt_at
from tests.support.paths import CONFIGS


class SleepyEngine(FakeEngine):
    asleep = False
    naps = 0

    async def generate(self, prompt, sampling):
        self.under_way += sampling.n
        async for rollout in super().generate(prompt, sampling):
            assert not self.asleep
            self.under_way -= 1
            yield rollout

    async def sleep(self):
        self.asleep, self.naps = True, self.naps + 1

    async def swap(self, version):
        self.asleep = False
        return await super().swap(version)


class WatchfulLearner(FakeLearner):
    def __init__(self, engines):
        super().__init__()
        self.engines = engines

    async def accumulate(self, group):
        assert all(engine.asleep for engine in self.engines)
        await super().accumulate(group)


class WatchfulScorer(FakeScorer):
    def __init__(self, engines):
        super().__init__(0.001)
        self.engines = engines

    async def score(self, prompt, rollout):
        assert not any(engine.under_way for engine in self.engines)
        return await super().score(prompt, rollout)


async def train(config, engines, learner, fake, scorer):
    async def on_step(step, metrics, groups):
        pass

    await driver.train(config, prompt_at, engines, scorer, learner, on_step)
    return [(number, group.prompt.uid, group.advantages) for number, group in fake.groups]


@pytest.mark.parametrize("count", [1, 3])
async def test_judges_answer_after_the_rollout_and_the_learner_learns_while_engines_sleep(count):
    config = load(
        None, ["data.manifest=x", "steps=3", "rollout.prompts_per_step=4", "rollout.group_size=4"]
    )
    engines = [SleepyEngine(0.001 * (1 + i)) for i in range(count)]
    learner, apart = WatchfulLearner(engines), FakeLearner()
    scorer = ScorerAfterRollout(WatchfulScorer(engines), engines)
    turns = await train(config, engines, ColocatedLearner(learner, engines), learner, scorer)
    others = [FakeEngine(0.001) for _ in range(count)]
    assert turns == await train(config, others, apart, apart, FakeScorer())
    assert [engine.naps for engine in engines] == [3] * count and len(turns) == 12
    assert not any(engine.asleep for engine in engines)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("rollout.engines=2", r"rollout.engines x rollout.tensor_parallel = 2 \(not 1\)"),
        ("max_staleness=1", "max_staleness=0"),
        ("learner.gpus_per_rank=0.8", "at most 1"),
        (
            "placement.colocate=false",
            "rollout.memory",
        ),  # then 0.5 of memory is more than 0.45 of the GPU
        ("rollout.tensor_parallel=2", r"rollout.tensor_parallel = 2 \(not 1\)"),
        ("learner.gpus_per_rank=0.05", "above 0.5"),  # two bundles would be put on one GPU
    ],
)
def test_what_sharing_a_gpu_needs(wrong, says):
    file = CONFIGS / "single-gpu.yaml"
    with pytest.raises(UserError, match=says):
        load(file, ["rollout.memory=0.5", wrong])
