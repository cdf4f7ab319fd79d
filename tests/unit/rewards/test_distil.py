"""A small judge from recorded verdicts: what is learnt from, what is measured, and the command."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.jobs.distil import student
from geoagent_rl.rewards import distil
from geoagent_rl.rewards.consistency_prompt import question
from geoagent_rl.rewards.distil import (
    Asked,
    agrees,
    calibration_error,
    collect,
    measured,
    order,
    threshold,
)
from geoagent_rl.rewards.judge_models import TINY
from geoagent_rl.rewards.judge_training import Said, answers
from geoagent_rl.rewards.recorded import open_run
from geoagent_rl.rewards.services import JudgeItem
from geoagent_rl.types import UserError
from tests.support.judged_scenes import record


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return record(tmp_path_factory.mktemp("judged") / "run", photographs=100)


def asked(judge, target="Pisa", weight=0.3, factor=1.0, text="x"):
    stage = {"judge": judge, "target": target, "agree": judge == target}
    return Asked(JudgeItem("place", (), text), stage | {"weight": weight, "length_factor": factor})


def test_every_question_is_learnt_from_or_measured_and_never_both(run):
    found = collect([run])
    texts = [set(part) for part in found.parts.values()]
    assert sum(map(len, texts)) == len(set.union(*texts))
    rows = [row for row in open_run(run).rows() if distil.part_of(row["uid"]) == "measure"]
    assert sum(map(len, found.answers.values())) == len(rows) > 0
    assert set(found.parts["measure"]) <= set(found.to_measure())
    again = collect([run, run])
    assert again.parts == found.parts and again.recorded == 2 * found.recorded


def test_recorded_consistency_rewards_are_the_ones_that_are_ordered(run):
    rows = {(row["step"], row["uid"], row["index"]): row for row in open_run(run).rows()}
    for (_, step, uid), group in collect([run]).answers.items():
        for index, verdicts in enumerate(group):
            earned = sum(one.earned(one.conclusion) for one in verdicts)
            score = rows[step, uid, index]["parts"]["consistency"]["score"]
            assert earned == pytest.approx(score, abs=1e-12)


def test_of_a_cascade_only_the_large_judges_verdicts_are_learnt_from(tmp_path):
    there = ["judge.endpoint.url=http://127.0.0.1:1/v1", "judge.cascade.enabled=true"]
    for model, enough in (("rule", True), ("another", False)):
        words = [*there, f"judge.endpoint.model={model}"]
        folder = record(tmp_path / model, photographs=60, words=words)
        if enough:
            assert collect([folder]).recorded > 200
        else:
            with pytest.raises(UserError, match="0 distinct verdicts"):
                collect([folder])


@pytest.mark.parametrize("agreement", [0.8, 0.9, 1.0])
def test_the_threshold_lets_no_more_go_up_than_the_agreement_asks_for(agreement):
    pairs = [
        (Said("Pisa" if i % 7 else "Rome", -0.01 * (i // 2 + 1), -1.0), asked("Pisa"))
        for i in range(40)
    ]
    below = threshold(pairs, agreement)

    def cascade(limit):
        return sum(said.logprob < limit or agrees(said, one) for said, one in pairs) / len(pairs)

    assert cascade(below) >= agreement
    lower = [said.logprob for said, _ in pairs if said.logprob < below]
    assert not lower or cascade(max(lower)) < agreement


def test_calibration_error_is_zero_for_honest_confidence_and_one_for_lies():
    assert calibration_error([0.75] * 4, [True, True, True, False]) == pytest.approx(0)
    assert calibration_error([1.0, 1.0], [False, False]) == pytest.approx(1)
    assert calibration_error([0.05, 0.95], [True, False]) == pytest.approx(0.95)


def test_an_answer_of_another_form_agrees_with_nothing():
    assert not agrees(Said(None, -0.1, -0.1), asked("unknown"))
    assert agrees(Said("pisa", -0.1, -0.1), asked("Pisa"))


def test_the_order_of_rewards_is_counted_by_pairs_that_the_large_judge_tells_apart():
    good, bad = asked("Pisa", text="good"), asked("Siena", text="bad")
    groups = [[[good], [bad], [good]]]
    assert order(groups, {}) == (2, 2)
    assert order(groups, {question(bad.item): "Pisa"}) == (2, 0)  # a tie is no order
    assert order(groups, {question(good.item): "PISA"}) == (2, 2)


def test_a_judge_that_says_the_same_keeps_everything_and_one_that_is_wrong_goes_up(run):
    found = collect([run])
    same = {t: Said(one.conclusion, -0.001, -0.005) for t, one in found.to_measure().items()}
    table = measured(found, same, -0.5)
    assert (table["agreement"], table["raised_share"], table["cascade_agreement"]) == (1, 0, 1)
    assert table["pairs"] == table["pairs_kept"] > 0
    assert table["calibration_error"] == pytest.approx(1 - math.exp(-0.005))
    wrong = {t: Said("Atlantis", -9.0, -9.0) for t in found.to_measure()}
    table = measured(found, wrong, -0.5)
    assert (table["agreement"], table["raised_share"], table["cascade_agreement"]) == (0, 1, 1)
    assert table["pairs"] == table["pairs_kept"]


def test_the_command_writes_a_judge_that_answers_and_says_what_it_is_worth(run, tmp_path):
    out = tmp_path / "judge"
    words = ["judge", "distil", str(run), "--out", str(out), "--steps", "10", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    table = json.loads(done.stdout)
    assert table == json.loads((out / "distilled.json").read_text())
    assert table["cascade_agreement"] >= table["agreement"] > 0.9  # as the tiny judge before
    assert 0 <= table["calibration_error"] <= 1 and table["train"] > table["measure"] > 0

    model, tokenizer = student(str(out))  # a Qwen3 checkpoint like any other
    items = [one.item for one in collect([run]).parts["measure"].values()][:8]
    said = answers(model, tokenizer, items)
    assert len(said) == 8 and all(one.total <= one.logprob <= 0 for one in said)
    assert sum(map(agrees, said, collect([run]).parts["measure"].values())) >= 6
    for start in (str(TINY), "tests"):
        with pytest.raises(UserError, match=f"--start {start}"):
            student(start)
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, UserError) and "exists already" in str(again.exception)
