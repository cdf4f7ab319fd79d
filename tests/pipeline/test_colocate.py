"""One GPU for engine and learner: they never work at the same time, and the numbers are those of
two GPUs.
"""

import pytest

from geoagent_rl import driver
from geoagent_rl.colocate import ColocatedLearner
from geoagent_rl.config import load
from geoagent_rl.types import UserError
from tests.support.driver_fakes import FakeEngine, FakeLearner, FakeScorer, prompt_at
from tests.support.paths import CONFIGS


class SleepyEngine(FakeEngine):
    asleep = False
    naps = 0

    async def generate(self, prompt, sampling):
        async for rollout in super().generate(prompt, sampling):
            assert not self.asleep
            yield rollout

    async def sleep(self):
        self.asleep, self.naps = True, self.naps + 1

    async def swap(self, version):
        self.asleep = False
        return await super().swap(version)


class WatchfulLearner(FakeLearner):
    def __init__(self, engine):
        super().__init__()
        self.engine = engine

    async def accumulate(self, group):
        assert self.engine.asleep
        await super().accumulate(group)


async def train(config, engine, learner, fake):
    async def on_step(step, metrics, groups):
        pass

    await driver.train(config, prompt_at, [engine], FakeScorer(), learner, on_step)
    return [(number, group.prompt.uid, group.advantages) for number, group in fake.groups]


async def test_the_learner_learns_only_while_the_engine_sleeps():
    config = load(
        None, ["data.manifest=x", "steps=3", "rollout.prompts_per_step=4", "rollout.group_size=4"]
    )
    engine = SleepyEngine(0.001)
    learner = WatchfulLearner(engine)
    apart = FakeLearner()
    turns = await train(config, engine, ColocatedLearner(learner, engine), learner)
    assert turns == await train(config, FakeEngine(0.001), apart, apart)
    assert engine.naps == 3 and not engine.asleep and len(turns) == 12


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("rollout.engines=2", "rollout.engines=1"),
        ("max_staleness=1", "max_staleness=0"),
        ("learner.gpus_per_rank=0.8", "at most 1"),
        (
            "placement.colocate=false",
            "rollout.memory",
        ),  # then 0.5 of memory is more than 0.45 of the GPU
        ("rollout.tensor_parallel=2", "rollout.tensor_parallel"),
    ],
)
def test_what_sharing_a_gpu_needs(wrong, says):
    file = CONFIGS / "single-gpu.yaml"
    with pytest.raises(UserError, match=says):
        load(file, ["rollout.memory=0.5", wrong])
