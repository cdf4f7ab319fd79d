"""The scorer: parts run at once, failures are retried and never become numbers, deadlines hold."""

from __future__ import annotations

import asyncio
import dataclasses
import math

import pytest

from geoagent_rl.config.reward import (
    ExactMatchConfig,
    RewardConfig,
    ScheduleConfig,
    SpatialConfig,
    Weights,
)
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import Services, Similarity
from geoagent_rl.types import InfraError, Truth
from tests.support.reward_fakes import PROMPT, Fakes, completion, rollout

PERFECT = 1.5 * 1.0 + 1.0 * (0.1 + 0.6 * 0.8 + 0.3 * 0.9) + 0.5 + 0.5


def scored(before=None, text=None, prompt=PROMPT, **config):
    fakes = Fakes(before)
    return asyncio.run(
        Scorer(fakes.services, RewardConfig(**config)).score(prompt, rollout(text))
    ), fakes


def fail_first(times, error=InfraError):
    left = {}

    def before(kind):
        left[kind] = left.get(kind, times) - 1
        if left[kind] >= 0:
            raise error(f"{kind} is down")

    return before


def test_a_good_answer_scores_what_the_formulas_say():
    found, fakes = scored()
    assert found.total == pytest.approx(PERFECT, abs=1e-9)
    assert {n: o.kind for n, o in found.parts.items()} == dict.fromkeys(
        ("spatial", "semantic", "consistency", "format"), "score"
    )
    assert fakes.calls == {"geocode": 1, "similarities": 1, "judge": 1, "same_place": 1}
    assert all(
        o.details["attempts"] == 1 and o.details["seconds"] >= 0 for o in found.parts.values()
    )


def test_an_answer_without_tags_is_a_data_failure_everywhere_and_asks_nobody():
    found, fakes = scored(text="Somewhere in Europe, I think.")
    assert found.total == 0.0 and {o.kind for o in found.parts.values()} == {"data"}
    assert all(o.reason for o in found.parts.values())
    assert not fakes.calls


def test_parts_run_at_the_same_time():
    everyone = asyncio.Barrier(3)  # nobody goes on before all three have been asked

    async def together(kind):
        if kind != "same_place":  # it compares what the judge has said
            await everyone.wait()

    found, fakes = scored(together)
    assert found.total == pytest.approx(PERFECT) and fakes.calls.total() == 4


def test_an_infra_failure_is_retried_and_changes_no_number():
    found, fakes = scored(fail_first(2), deadline_s=5.0)
    assert found.total == pytest.approx(PERFECT, abs=1e-12)
    assert fakes.calls["geocode"] == 3 and found.parts["spatial"].details["attempts"] == 3


def test_a_service_that_stays_down_is_an_infra_outcome_with_its_reason():
    found, _ = scored(fail_first(10**6), deadline_s=0.3)
    assert found.total is None
    assert (
        found.parts["spatial"].kind == "infra"
        and found.parts["spatial"].reason == "geocode is down"
    )
    assert found.parts["format"].score == 1.0


def test_a_hung_service_costs_no_more_than_the_deadline():
    async def hang():
        await asyncio.Event().wait()

    found, fakes = scored(
        lambda kind: hang() if kind == "judge" else None, deadline_s=0.4, attempt_timeout_s=0.1
    )
    assert found.total is None and "no answer within" in found.parts["consistency"].reason
    assert found.parts["semantic"].score is not None and 2 <= fakes.calls["judge"] <= 4


@pytest.mark.parametrize(
    ("kind", "garbage"),
    [
        ("geocode", []),
        ("geocode", ["not a match"]),
        ("similarities", [Similarity(math.nan, "encoder")] * 3),
        ("similarities", [None, None, None]),
        ("judge", None),
        ("judge", [{"Conclusion": "France"}] * 3),
    ],
)
def test_garbage_from_a_service_is_never_a_score(kind, garbage):
    answer = garbage if garbage is not None else 7
    found, _ = scored(lambda k: answer if k == kind else None, deadline_s=0.2)
    assert found.total is None
    bad = [n for n, o in found.parts.items() if o.kind == "infra"]
    assert bad == [{"geocode": "spatial", "similarities": "semantic", "judge": "consistency"}[kind]]


def test_a_bug_in_a_service_is_not_retried():
    found, fakes = scored(fail_first(10**6, ZeroDivisionError), deadline_s=5.0)
    assert found.total is None and fakes.calls["geocode"] == 1
    assert "ZeroDivisionError" in found.parts["spatial"].reason


def test_parts_of_weight_zero_are_not_asked():
    fakes = Fakes()
    services = Services(fakes, fakes, None)  # no judge at all
    config = RewardConfig(weights=Weights(consistency=0.0))
    found = asyncio.run(Scorer(services, config).score(PROMPT, rollout()))
    assert found.total == pytest.approx(PERFECT - 0.5) and "consistency" not in found.parts


def test_other_words_for_the_same_place_agree():
    text = completion(conclusions=("Germany", "Bayern", "Munich")).replace("Bayern: ", "Bavaria: ")
    found, fakes = scored(text=text)
    assert found.parts["consistency"].score == pytest.approx(1.0) and fakes.calls["same_place"] == 1


async def test_cancellation_leaves_at_once():
    async def hang():
        await asyncio.Event().wait()

    task = asyncio.create_task(
        Scorer(Fakes(lambda kind: hang()).services, RewardConfig()).score(PROMPT, rollout())
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 1.0)


def test_every_part_that_has_a_weight_is_reached_by_its_name():
    weights = Weights(**{field.name: 1.0 for field in dataclasses.fields(Weights)})
    for style, score in (("gre", 1.0), ("globe", 0.2), ("geovista", 0.25)):
        found, _ = scored(weights=weights, exact_match=ExactMatchConfig(style=style))
        assert set(found.parts) == set(vars(weights)) and found.parts["answer_format"].score == 1.0
        assert found.parts["exact_match"].score == pytest.approx(score)


def test_a_geocoded_truth_is_asked_for_with_the_answer():
    def at(**truth):
        prompt = dataclasses.replace(PROMPT, truth=dataclasses.replace(PROMPT.truth, **truth))
        return scored(prompt=prompt, spatial=SpatialConfig(truth="geocoded"))

    found, fakes = at(lat=-30.0, lon=150.0)
    assert found.parts["spatial"].score == 1.0 and fakes.calls["geocode"] == 1
    lost = at(country="Qzxland")[0].parts["spatial"]
    assert (lost.kind, lost.score) == ("data", 0.0) and "truth" in lost.reason


def test_an_answer_in_coordinates_is_scored_by_them_and_asks_no_geocoder():
    fakes = Fakes()
    config = RewardConfig(weights=Weights(semantic=0, consistency=0))
    text = "<think>x</think><answer>48.0, 11.0</answer>"
    at_home = dataclasses.replace(PROMPT, truth=Truth("", "", "", 48.0, 11.0))
    scorer = Scorer(fakes.services, config, "lat_lon")
    found = asyncio.run(scorer.score(at_home, rollout(text)))
    assert found.parts["spatial"].score == 1.0 and found.parts["format"].score == 1.0
    assert found.parts["spatial"].details["provider"] == "answer"


def test_numbers_that_follow_the_step_are_those_of_the_rollouts_version():
    falling = ScheduleConfig("spatial.tau_km", "linear", 1000.0, 100.0, 10)
    config = RewardConfig(weights=Weights(semantic=0, consistency=0), schedules=(falling,))
    scorer = Scorer(Fakes().services, config, "lat_lon")
    text = "<think>x</think><answer>49.0, 11.0</answer>"
    at_home = dataclasses.replace(PROMPT, truth=Truth("", "", "", 48.0, 11.0))
    early, late = (
        asyncio.run(scorer.score(at_home, dataclasses.replace(rollout(text), version=version)))
        for version in (0, 9)
    )
    assert early.parts["spatial"].details["tau_km"] == 1000.0
    assert late.parts["spatial"].details["tau_km"] == 100.0
    assert early.total > late.total
