"""Whatever a user's reward returns or raises is an outcome of plain types, or an infra failure that
names the part: never a lost step."""

import asyncio
import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from geoagent_rl import config as configuration
from geoagent_rl.rewards import custom
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.types import Outcome, UserError
from tests.support.reward_fakes import PROMPT, completion, rollout


def scorer_of(monkeypatch, function):
    module = ModuleType("own_rewards")
    module.reward = function
    monkeypatch.setitem(sys.modules, "own_rewards", module)
    words = ["data.manifest=x", "reward.custom.own.function=own_rewards:reward"]
    words += ["reward.custom.own.weight=1", "reward.deadline_s=1"]
    words += [f"reward.weights.{n}=0" for n in ("spatial", "semantic", "consistency", "format")]
    return Scorer(None, configuration.load(None, words).reward)


async def part_of(monkeypatch, function):
    text = completion(("Japan", "", ""), ("Japan", "", ""))
    return (await scorer_of(monkeypatch, function).score(PROMPT, rollout(text))).parts["own"]


DETAILS = {
    "numpy": np.float32(0.5),
    "array": np.arange(3),
    "tensor": torch.ones(2),
    "flag": np.bool_(True),
    "set": {1},
    "lone": "\ud800",
    3: (1, 2),
}


async def test_every_value_becomes_a_plain_type(monkeypatch):
    async def reward(*_, **__):
        return Outcome("score", np.float32(0.25), np.str_("because"), DETAILS)

    outcome = await part_of(monkeypatch, reward)
    assert type(outcome.score) is float and type(outcome.reason) is str
    text = json.dumps(outcome.details, ensure_ascii=False).encode("utf-8")
    found = json.loads(text)
    assert found["array"] == [0, 1, 2] and found["tensor"] == [1.0, 1.0]
    assert found["numpy"] == 0.5 and found["flag"] is True and found["3"] == [1, 2]


def returns(value):
    async def reward(*_, **__):
        return value

    return reward


def raises(error):
    async def reward(*_, **__):
        raise error

    return reward


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (returns(0.5), "own returned float, not an Outcome"),
        (returns(None), "own returned NoneType"),
        (lambda *_, **__: 0.5, "own is no `async def`"),
        (raises(asyncio.CancelledError()), "cancelled itself"),
        (raises(ZeroDivisionError("by zero")), "ZeroDivisionError: by zero"),
        (returns(Outcome("infra", None, "no quota left")), "no quota left"),
        (returns(Outcome("score", float("nan"))), "gives the score nan"),
    ],
)
async def test_anything_else_is_an_infra_failure_with_its_reason(monkeypatch, function, reason):
    outcome = await part_of(monkeypatch, function)
    assert outcome.kind == "infra" and reason in outcome.reason


async def test_a_real_cancellation_still_cancels(monkeypatch):
    async def reward(*_, **__):
        await asyncio.sleep(20)

    task = asyncio.create_task(part_of(monkeypatch, reward))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_module_that_cannot_be_read_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "broken_rewards.py").write_text("def reward(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["data.manifest=x", "reward.custom.own.function=broken_rewards:reward"]
    with pytest.raises(UserError, match="cannot be imported") as caught:
        custom.functions(configuration.load(None, [*words]).reward)
    assert "\n" not in str(caught.value)
