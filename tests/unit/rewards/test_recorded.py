"""What a run has recorded is explained without scoring it again, and weighed otherwise."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from geoagent_rl.config import Config, load, to_yaml
from geoagent_rl.credit import comparable_totals
from geoagent_rl.grpo.advantages import group_advantages
from geoagent_rl.pages.reweighing import write_reweighing
from geoagent_rl.rewards.recorded import groups, look, open_run, steps
from geoagent_rl.rewards.reweigh import judged, reweigh
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.run.directory import RunDir
from geoagent_rl.types import Group, InfraError, UserError
from tests.support.reward_fakes import LEVELS, PROMPT, Fakes, completion, rollout

ELSEWHERE = ("Germany", "Hessen", "Kassel")
SPEAKS_WELL = completion(("France", "Normandy", "Rouen"), characters=300)  # wrong, well reasoned
KNOWS = completion(LEVELS, characters=40)  # right, hardly reasoned
ANSWERS = [completion(), completion(ELSEWHERE), KNOWS, SPEAKS_WELL, "I do not know."]


def scored(config, texts, before=None, version=0):
    """A group whose rewards are computed as in training."""
    scorer = Scorer(Fakes(before).services, config.reward)
    rollouts = [replace(rollout(text, i), version=version) for i, text in enumerate(texts)]

    async def run():
        return await asyncio.gather(*(scorer.score(PROMPT, r) for r in rollouts))

    samples = asyncio.run(run())
    return Group(
        PROMPT, tuple(samples), tuple(group_advantages(comparable_totals(config, samples)))
    )


def recorded(folder, found, *overrides):
    """A run directory with one group in each step."""
    config = load(None, ["data.manifest=scenes", f"run.dir={folder}", *overrides])
    run = RunDir(folder).begin(config)
    for step, make in enumerate(found, 1):
        run.record_step({"step": step}, [make(config)])
    return folder


@pytest.fixture
def run(tmp_path):
    return recorded(tmp_path / "run", [lambda c: scored(c, ANSWERS), lambda c: scored(c, ANSWERS)])


def lines(path):
    return [json.loads(line) for line in (path / "rollouts.jsonl").read_text().splitlines()]


def test_every_number_is_the_recorded_one(run):
    for row, found in zip(lines(run), open_run(run).verdicts(), strict=True):
        assert {key: found[key] for key in row} == row


def test_the_points_lost_of_an_answer_add_up_to_what_it_lacks(run):
    for row in open_run(run).verdicts():
        lost = sum(loss["points"] for loss in row["lost"])
        assert lost == pytest.approx(row["max_total"] - row["total"], abs=1e-9)


def test_the_points_lost_add_up_where_an_optional_part_failed(tmp_path):
    def no_judge(kind):
        if kind == "judge":
            raise InfraError("no judge")

    path = recorded(
        tmp_path / "run",
        [lambda c: scored(c, ANSWERS, no_judge)],
        "reward.required=[spatial,semantic,format]",
        "reward.deadline_s=0.2",
    )
    rows = list(open_run(path).verdicts())
    assert any(row["parts"]["consistency"]["kind"] == "infra" for row in rows)
    for row in rows:
        lost = sum(loss["points"] for loss in row["lost"])
        assert lost == pytest.approx(row["max_total"] - row["total"], abs=1e-9)


def test_each_answer_has_the_causes_that_it_was_written_for(run):
    causes = [
        {(loss["part"], loss["cause"]) for loss in row["lost"]}
        for row in open_run(run).verdicts(step=1)
    ]
    right, elsewhere, knows, speaks, silent = causes
    assert {part for part, _ in right} == {"semantic"}  # Bavaria ~ Bayern is 0.8
    assert ("semantic", "region: another one") in elsewhere
    assert ("consistency", "region: the reasoning is too short") in knows
    assert ("spatial", "no level of the answer is a known place") in speaks
    assert ("spatial", "the answer names no place") in silent


def test_answers_are_found_by_how_they_lost_points(run):
    recorded = open_run(run)
    every = list(recorded.verdicts())
    causes = {f"{loss['part']}: {loss['cause']}" for row in every for loss in row["lost"]}
    for text in (min(causes), "spatial"):
        found = [row["uid"] for row in recorded.verdicts(lost=text)]
        assert found == [
            row["uid"]
            for row in every
            if any(text in f"{loss['part']}: {loss['cause']}" for loss in row["lost"])
        ]
    with pytest.raises(UserError, match="lost points by 'luck'"):
        list(recorded.verdicts(lost="luck"))


def test_an_unscorable_answer_is_counted_with_its_reason_and_loses_nothing(tmp_path):
    def down(kind):
        if kind == "geocode":
            raise InfraError("the geocoder is down")

    path = recorded(
        tmp_path / "run", [lambda c: scored(c, ANSWERS[:2], down)], "reward.deadline_s=0.2"
    )
    summary, worst, _ = look(open_run(path).verdicts(), 5, 0)
    assert summary["unscorable"] == summary["answers"] == 2 and not worst
    assert summary["failed"] == [
        {"part": "spatial", "reason": "the geocoder is down", "answers": 2}
    ]
    assert not summary["lost"] and summary["mean_total"] is None


def test_the_worst_are_those_of_lowest_total(run):
    _, worst, _ = look(open_run(run).verdicts(), 3, 0)
    totals = sorted(row["total"] for row in lines(run))
    assert [row["total"] for row in worst] == totals[:3]


@pytest.mark.parametrize("overlong", ["keep", "penalty"])
def test_with_the_runs_own_weights_totals_and_advantages_are_those_of_training(tmp_path, overlong):
    path = recorded(
        tmp_path / "run",
        [lambda c: scored(c, ANSWERS)],
        f"learner.overlong={overlong}",
        "learner.overlong_buffer=0.9",
        "rollout.max_tokens=1",
    )
    opened = open_run(path)
    for step in steps(groups(opened.rows())):
        for group, (totals, advantages) in zip(step, judged(opened.config, step), strict=True):
            assert totals == [row["total"] for row in group]
            assert advantages == [row["advantage"] for row in group]
    table = reweigh(path, {})
    assert table["flipped"] == table["swapped"] == table["mean_advantage_change"] == 0


def test_other_weights_flip_a_group(tmp_path):
    path = recorded(tmp_path / "run", [lambda c: scored(c, [KNOWS, SPEAKS_WELL])])
    table = reweigh(path, {"spatial": 0.1, "semantic": 0.1, "consistency": 3})
    assert (table["flipped"], table["swapped"], table["pairs"]) == (1, 1, 1)
    assert table["sign_changes"] == 2
    (largest,) = table["largest"]
    assert largest["best"] == [[0], [1]]
    write_reweighing(tmp_path / "page.html", table)
    page = (tmp_path / "page.html").read_text()
    assert "<td>spatial</td><td>1.5</td><td>0.1</td>" in page.replace("\n", "")
    assert "<td>#0</td><td>#1</td><td>yes</td>" in page.replace("\n", "")


def test_the_weights_of_a_schedule_are_those_of_the_answers_version(tmp_path):
    schedule = (
        "reward.schedules=[{of: weights.spatial, kind: piecewise, points: [[0, 1.0], [5, 3.0]]}]"
    )
    path = recorded(
        tmp_path / "run",
        [lambda c: scored(c, ANSWERS), lambda c: scored(c, ANSWERS, version=5)],
        schedule,
    )
    opened = open_run(path)
    assert [row["weights"]["spatial"] for row in opened.verdicts()] == [1.0] * 5 + [3.0] * 5
    for step in steps(groups(opened.rows())):
        for group, (totals, _) in zip(step, judged(opened.config, step), strict=True):
            assert totals == [row["total"] for row in group]
    given = reweigh(path, {"spatial": 1.0}, step=1)
    assert given["swapped"] == 0 and given["mean_advantage_change"] == 0
    assert reweigh(path, {"spatial": 1.0}, step=2)["mean_advantage_change"] > 0


def test_a_photograph_that_comes_twice_in_a_step_has_two_groups(tmp_path):
    config = Config()
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    group = scored(config, ANSWERS[:2])
    folder.record_step({"step": 1}, [group, group])
    (folder.path / "config.yaml").write_text(
        to_yaml(load(None, ["data.manifest=scenes"])), encoding="utf-8"
    )
    assert [len(found) for found in groups(open_run(folder.path).rows())] == [2, 2]


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"spatal": 1.0}, "did you mean 'reward.weights.spatial'"),
        ({"spatial": -1.0}, "reward.weights.spatial must be"),
        ({"exact_match": 1.0}, "no recorded score of exact_match"),
        (dict.fromkeys(("spatial", "semantic", "consistency", "format"), 0.0), "weight above 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(run, weights, says):
    with pytest.raises(UserError, match=says):
        reweigh(run, weights)


def test_the_page_of_ten_thousand_answers_is_light(run, tmp_path):
    text = (run / "rollouts.jsonl").read_text()
    (run / "rollouts.jsonl").write_text(text * 1000)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["reward", "explain", str(run), "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert "10,000 answers" in page.read_text() and page.stat().st_size < 1_000_000


def test_the_command_line_prints_every_verdict_the_worst_or_the_account(run):
    def rows(*words):
        done = CliRunner().invoke(app, ["reward", "explain", str(run), "--json", *words])
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert [row["total"] for row in rows()] == [row["total"] for row in lines(run)]
    assert [row["total"] for row in rows("--worst", "1")] == [min(r["total"] for r in lines(run))]
    assert {row["step"] for row in rows("--step", "2")} == {2}
    (account,) = rows("--summary")
    assert account["answers"] == len(lines(run))
    shown = CliRunner().invoke(app, ["reward", "explain", str(run), "--uid", "u", "--worst", "1"])
    for word in ("advantage", "Germany | Bavaria | Munich", "the answer names no place"):
        assert word in shown.stdout


def test_a_run_is_not_scored_again_with_other_settings(run):
    done = CliRunner().invoke(app, ["reward", "explain", str(run), "reward.spatial.tau_km=1"])
    assert isinstance(done.exception, UserError)
    file = CliRunner().invoke(app, ["reward", "explain", str(run / "rollouts.jsonl"), "--uid", "u"])
    assert isinstance(file.exception, UserError)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.yaml"):
        open_run(tmp_path)
