"""A cascade of judges: who is asked, whose verdict counts, and what is counted."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from actors.cache_counters import cascade_shares
from actors.judge_worker import read_verdict, verdict_version
from geoagent_rl.config import load
from geoagent_rl.config.services import CascadeConfig, JudgeConfig, JudgeEndpointConfig
from geoagent_rl.metrics.table import is_metric
from geoagent_rl.rewards.cascade import Cascade, alike, is_sampled
from geoagent_rl.rewards.services import JudgeItem, Verdict
from geoagent_rl.types import InfraError, UserError


class Fake:
    """Concludes what the reasoning's first word says; `sure` of it unless the second is "?"."""

    def __init__(self, name, conclude=lambda word: word, broken=False):
        self.name, self.conclude, self.broken, self.asked = name, conclude, broken, []

    async def verdict(self, item):
        self.asked.append(item)
        if self.broken:
            raise InfraError(f"{self.name} is away")
        word, doubt = item.reasoning.split()
        return Verdict(self.conclude(word), 1.0, self.name, -2.0 if doubt == "?" else -0.001)


def item(word, doubt="."):
    return JudgeItem("place", ("Italy",), f"{word} {doubt}")


def ask(small, large, items, **config):
    cascade = Cascade(small, large, CascadeConfig(enabled=True, **config))
    return asyncio.run(cascade.judge(items)), cascade.counters


def test_the_large_judge_is_asked_only_where_the_small_one_is_unsure():
    small, large = Fake("small"), Fake("large", str.upper)
    found, counters = ask(
        small, large, [item("Pisa"), item("Siena", "?")], sampled_share=0.0, unsure_below=-0.5
    )
    assert [(v.conclusion, v.by, v.seconds) for v in found] == [
        ("Pisa", "small", 1.0),
        ("SIENA", "large", 2.0),
    ]
    assert large.asked == [item("Siena", "?")]
    assert cascade_shares(counters) == {"judge_raised_share": 0.5}


def test_a_failure_of_the_large_judge_is_no_verdict_and_is_not_counted():
    small, large = Fake("small"), Fake("large", broken=True)
    cascade = Cascade(small, large, CascadeConfig(enabled=True, sampled_share=0.0))
    with pytest.raises(InfraError, match="large is away"):
        asyncio.run(cascade.verdict(item("Siena", "?")))
    assert asyncio.run(cascade.verdict(item("Pisa"))).by == "small"
    assert cascade.counters == Counter(cascade_verdicts=1)


def test_agreement_is_measured_on_a_share_that_follows_from_the_question():
    items = [item(f"City{i}") for i in range(2000)]
    large = Fake("large", lambda word: "Rome" if word.endswith("7") else word.lower())
    found, counters = ask(Fake("small"), large, items, sampled_share=0.1)
    raised = [v.by == "large" for v in found]
    assert raised == [is_sampled(one, 0.1) for one in items]  # again the same, on any machine
    assert 0.07 < sum(raised) / len(items) < 0.13
    shares = cascade_shares(counters)
    assert shares["judge_raised_share"] == sum(raised) / len(items)
    agreed = [not one.reasoning.split()[0].endswith("7") for one in large.asked]
    assert (
        shares["judge_agreement"] == sum(agreed) / len(agreed)
        and 0.7 < shares["judge_agreement"] < 1
    )
    assert all(is_metric(name) for name in shares)
    assert all(is_sampled(one, 1.0) and not is_sampled(one, 0.0) for one in items[:20])


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("São Paulo", "sao paulo", True), ("unknown", "", True), ("Pisa", "unknown", False)],
)
def test_conclusions_are_compared_as_the_reward_compares_texts(a, b, same):
    assert alike(a, b) is same


def test_the_cache_says_who_gave_a_verdict_and_knows_each_cascade():
    assert read_verdict(["Pisa", 1, "large", None]) == Verdict("Pisa", 1.0, "large")
    with pytest.raises(ValueError, match="unpack"):
        read_verdict(["Pisa", 1])  # an older version's
    endpoint = JudgeEndpointConfig(url="http://127.0.0.1:1/v1", model="m")
    versions = {
        verdict_version(JudgeConfig()),
        verdict_version(JudgeConfig(endpoint=endpoint)),
        verdict_version(JudgeConfig(endpoint=endpoint, cascade=CascadeConfig(enabled=True))),
        verdict_version(
            JudgeConfig(endpoint=endpoint, cascade=CascadeConfig(enabled=True, unsure_below=-1.0))
        ),
    }
    assert len(versions) == 4


def test_a_cascade_needs_its_large_judge_and_keeps_its_engines_gpus():
    words = ["data.manifest=scenes", "judge.cascade.enabled=true"]
    with pytest.raises(UserError, match=r"judge\.endpoint\.url"):
        load(None, words)
    there = ["judge.endpoint.url=http://127.0.0.1:1/v1", "judge.endpoint.model=m"]
    judge = load("configs/paper.yaml", [*words, *there]).judge
    assert judge.has_engine and judge.engine_gpus == judge.gpus_per_replica > 0
