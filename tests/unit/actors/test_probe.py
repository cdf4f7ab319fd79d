"""The guard after a weight swap: kernels may differ, policies may not. The engine's answers are
made up here.
"""

import random

import pytest

from actors.rollout import RolloutEngine
from geoagent_rl.config import Config
from geoagent_rl.types import InfraError, PolicyVersion

LEARNERS = tuple(-0.5 * i for i in range(17))


def engine(dtype, answers):
    """An engine whose probe gives `answers`, one after the other."""
    config = Config()
    config.policy.dtype = dtype
    made, left = RolloutEngine(config, "base"), iter(answers)

    async def probe():
        return next(left)

    made.probe_logprobs = probe
    return made


def shaken(by: float, seed: int = 0) -> tuple[float, ...]:
    chance = random.Random(seed)
    return tuple(x + chance.gauss(0.0, by) for x in LEARNERS)


async def test_the_rounding_of_bfloat16_is_no_false_alarm():
    """As measured between two attention kernels: 0.05 on average, 0.37 at the worst token."""
    rounded = (*shaken(0.06)[:-1], LEARNERS[-1] + 0.37)
    taken = engine("bfloat16", [rounded])
    await taken.prove(PolicyVersion(1, "adapter", "v1", LEARNERS))
    assert taken.version.number == 1


@pytest.mark.parametrize(("dtype", "by"), [("bfloat16", 0.5), ("float32", 0.01)])
async def test_other_weights_are_refused(dtype, by):
    with pytest.raises(InfraError, match="it does not hold those weights"):
        await engine(dtype, [shaken(by)]).prove(PolicyVersion(1, "adapter", "v1", LEARNERS))


async def test_a_swap_that_changed_nothing_is_refused():
    moved = tuple(x + 1e-4 for x in LEARNERS)
    taken = engine("bfloat16", [LEARNERS, LEARNERS])
    await taken.prove(PolicyVersion(1, "adapter", "v1", LEARNERS))
    with pytest.raises(InfraError, match="the new weights are not bound"):
        await taken.prove(PolicyVersion(2, "adapter", "v2", moved))


@pytest.mark.parametrize("answer", [LEARNERS[:-1], (float("nan"), *LEARNERS[1:])])
async def test_what_is_no_answer_is_refused(answer):
    with pytest.raises(InfraError, match="by inf nats"):
        await engine("float32", [answer]).prove(PolicyVersion(1, "checkpoint", "v1", LEARNERS))
