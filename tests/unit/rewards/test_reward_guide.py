"""The reward of one's own in docs/rewards.md works as it is printed there, in no more than 30
lines.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import sys

import pytest

from geoagent_rl import config as configuration
from geoagent_rl.metrics.batch import sample_metrics
from geoagent_rl.metrics.line import summary_line
from geoagent_rl.metrics.table import parts_measured
from geoagent_rl.pages.explanation import show
from geoagent_rl.rewards.explain import Line, explain
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.types import Group, InfraError, UserError
from tests.support.paths import ROOT
from tests.support.reward_fakes import PROMPT, Fakes, completion, rollout

PAGE = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
GUIDE = PAGE.split("## A reward of your own")[1]
CODE, SETTINGS = (
    re.search(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)[1] for kind in ("python", "yaml")
)
NAME = "my_rewards"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The configuration of the guide, with its module importable."""
    (tmp_path / f"{NAME}.py").write_text(CODE)
    (tmp_path / "my.yaml").write_text(SETTINGS)
    monkeypatch.syspath_prepend(tmp_path)
    yield configuration.load(
        tmp_path / "my.yaml", ["data.manifest=scenes", "reward.deadline_s=0.3"]
    ).reward
    sys.modules.pop(NAME, None)


def score(config, text, before=None):
    return asyncio.run(Scorer(Fakes(before).services, config).score(PROMPT, rollout(text)))


def test_thirty_lines_are_enough():
    assert len(CODE.splitlines()) + len(SETTINGS.splitlines()) <= 30


def test_it_counts_in_the_total_and_is_a_part_like_the_others(config):
    right, wrong, silent = (
        score(config, text)
        for text in (None, completion(("France", "Normandy", "Rouen")), "I do not know.")
    )
    assert right.parts["near"].score == 1.0 and right.parts["near"].details["distance_km"] < 1
    others = {name: weight for name, weight in vars(config.weights).items() if weight}
    assert right.total == pytest.approx(
        0.5 + sum(w * right.parts[name].score for name, w in others.items())
    )
    assert [(s.parts["near"].kind, s.parts["near"].score) for s in (wrong, silent)] == [
        ("data", 0.0)
    ] * 2


def test_its_failures_are_retried_and_never_a_number(config):
    down = []

    def fails(times):
        def before(kind):
            if kind == "geocode" and len(down) < times:
                down.append(kind)
                raise InfraError("the geocoder is down")

        return before

    assert score(config, None, fails(1)).parts["near"].score == 1.0
    lost = score(config, None, fails(10**6))
    assert (lost.parts["near"].kind, lost.total) == ("infra", None)


def test_it_is_measured_charted_and_explained(config):
    scored, spans = score(config, None), {"submitted": 0.0, "generated": 1.0, "scored": 2.0}
    scored = dataclasses.replace(scored, rollout=dataclasses.replace(scored.rollout, spans=spans))
    row = sample_metrics([Group(PROMPT, (scored,), (0.0,))])
    assert row["reward_near_mean"] == 1.0 and parts_measured(row)[-1] == "near"
    times = dict.fromkeys(
        ("tokens_per_s", "step_seconds", "rollout_wait_seconds", "swap_seconds"), 0.0
    )
    assert "nea 1.00" in summary_line(1, 2, row | times | {"reward_exposed_seconds": 0.0})
    fakes = Fakes()
    (found,) = asyncio.run(
        explain([Line(1, "u", completion(), PROMPT.truth)], config, fakes, fakes)
    )
    assert found["parts"]["near"]["weight"] == 0.5 and "near         1.0000 x 0.5" in show(found)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "reward.custom.far.function=my_rewards:far",
            "reward.custom.far.function.*my_rewards:far.*PYTHONPATH",
        ),
        ("reward.custom.far.function=no_such_module:far", "no_such_module.*module:function"),
        (
            "reward.custom.spatial.function=my_rewards:near",
            "reward.custom.spatial: give it another name",
        ),
        (
            "reward.custom.total.function=my_rewards:near",
            "reward.custom.total: give it another name",
        ),
        ("reward.custom.near.wieght=1", "wieght"),
    ],
)
def test_mistakes_are_one_line(config, tmp_path, override, says):
    with pytest.raises(UserError, match=says) as caught:
        reward = configuration.load(tmp_path / "my.yaml", ["data.manifest=scenes", override]).reward
        Scorer(Fakes().services, reward)
    assert "\n" not in str(caught.value)
