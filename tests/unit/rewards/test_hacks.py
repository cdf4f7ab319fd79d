"""No answer that tries to earn without knowing earns more than the honest one of who knows as much;
the page shows the table."""

from __future__ import annotations

import asyncio
import re

import pytest

from geoagent_rl.config.reward import ConsistencyConfig, RewardConfig
from geoagent_rl.rewards import hacks
from geoagent_rl.rewards.local import LocalPlaces
from tests.support.paths import ROOT

pytestmark = pytest.mark.timeout(300)  # the first test may pack the gazetteer


@pytest.fixture(scope="module")
def earned():
    return score(RewardConfig())


def score(config):
    (places,) = LocalPlaces.open(config)
    return asyncio.run(hacks.score(places, config))


def better(earned):
    return [one.hack.name or one.hack.answer for one in earned if one.total > one.honest + 1e-6]


def test_a_hack_never_beats_the_honest_answer(earned):
    assert len({one.hack.answer for one in earned}) >= 60
    assert better(earned) == []


def test_nor_does_it_where_the_judge_compares_with_the_truth():
    """But for those that name the right region and place below a continent: they know more than
    the answer beside them, and are paid for it."""
    found = score(RewardConfig(consistency=ConsistencyConfig(against="truth")))
    assert better([one for one in found if "Gauteng; Johannesburg" not in one.hack.answer]) == []


def test_the_judge_of_the_table_believes_the_last_thing_said(earned):
    by_name = {one.hack.name: one.parts["consistency"] for one in earned if one.hack.name}
    assert by_name["one conclusion three times"] == by_name["the country's stage alone"]
    assert by_name["another answer than concluded"] == pytest.approx(
        1.0
    )  # agreement is all it asks


@pytest.mark.parametrize("kind", ["declines", "template words", "numbers"])
def test_what_names_nothing_earns_nothing(earned, kind):
    assert {one.total for one in earned if one.hack.kind == kind} == {0.0}


def test_the_page_shows_what_the_command_prints(earned):
    page = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
    shown = page.partition(hacks.BEGIN)[2].partition(hacks.END)[0].strip().splitlines()
    made = hacks.markdown(earned).splitlines()
    number = re.compile(r"\d\.\d\d")
    assert [number.sub("", line) for line in shown] == [number.sub("", line) for line in made]
    for old, new in zip(shown, made, strict=True):  # figures of the encoder may differ by rounding
        pairs = zip(number.findall(old), number.findall(new), strict=True)
        assert all(abs(float(a) - float(b)) < 0.03 for a, b in pairs)
