"""Two runs are compared by what they have recorded."""

import json

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from geoagent_rl.evaluation.predictions import from_rows
from geoagent_rl.evaluation.summary import compare
from geoagent_rl.pages.run_comparison import compare_runs, show_runs
from geoagent_rl.types import UserError
from tests.support.monitor_runs import new_run, photograph, record


def rows(shift, n=40):
    """Predictions that lie `shift` degrees north of the truth, a little more for each."""
    return [
        {
            "uid": f"photo-{i}",
            "gt_lat": 40.0,
            "gt_lon": float(i),
            "pred_lat": 40.0 + shift * (i % 5),
            "pred_lon": float(i),
        }
        for i in range(n)
    ]


@pytest.fixture
def runs(tmp_path):
    """Run b learns faster and answers better."""
    made = []
    for name, rise, shift, steps in (("a", 40.0, 2.0, 5), ("b", 4.0, 0.5, 7)):
        run = new_run(tmp_path, name, max_staleness=int(name == "b"), steps=7)
        record(run, photograph(tmp_path / "photos"), range(1, steps + 1), rise=rise)
        run.record_predictions("grpo", "eval", rows(shift))
        made.append(run)
    made[0].record_predictions("sft", "eval", rows(3.0))
    return tuple(run.path for run in made)


def test_only_settings_that_differ_are_listed(runs):
    assert compare_runs(runs)["settings"] == {"max_staleness": [0, 1]}


def test_the_ends_of_a_curve_are_the_means_of_its_first_and_last_steps(runs):
    table = compare_runs(runs)
    for path, change in zip(runs, table["curves"]["reward_total_mean"], strict=True):
        lines = (path / "metrics.jsonl").read_text().splitlines()
        values = [json.loads(line)["reward_total_mean"] for line in lines]
        assert change == pytest.approx((sum(values[:5]) / 5, sum(values[-5:]) / 5))
    assert table["steps"] == [5, 7]


def test_evaluations_that_both_have_kept_are_compared_with_paired_intervals(runs):
    table = compare_runs(runs)
    expected = compare([from_rows("A", rows(2.0)), from_rows("B", rows(0.5))], 1805.0)
    assert table["evaluations"]["grpo-eval"] == expected
    assert expected["differences"]["B"]["200"]["low"] > 0
    assert table["not_compared"] == {"sft-eval": "only A has kept predictions"}


def test_evaluations_of_other_photographs_are_not_compared(runs):
    file = runs[1] / "predictions" / "grpo-eval.jsonl"
    file.write_text(file.read_text().replace("photo-", "other-"))
    assert "no uid in common" in compare_runs(runs)["not_compared"]["grpo-eval"]


def test_the_text_names_what_differs_and_the_json_is_the_table(runs):
    text = show_runs(compare_runs(runs))
    for said in ("max_staleness: 0 | 1", "reward_total_mean", "evaluation grpo-eval", "B - A"):
        assert said in text
    done = CliRunner().invoke(app, ["compare", *map(str, runs), "--json"])
    assert json.loads(done.stdout) == json.loads(json.dumps(compare_runs(runs)))


def test_a_run_that_has_only_begun_has_no_curve(tmp_path, runs):
    begun = new_run(tmp_path, "begun").path
    table = compare_runs((begun, runs[0]))
    assert table["curves"]["reward_total_mean"][0] is None
    assert "reward_total_mean" in show_runs(table)


def test_the_samples_are_those_on_which_the_runs_differ_most(runs):
    found = compare_runs(runs)["samples"]["grpo-eval"]
    gaps = [one["km"][0] - one["km"][1] for one in found]
    assert len(found) == 10 and gaps == sorted(gaps, reverse=True)  # B is never worse
    assert {int(one["uid"].removeprefix("photo-")) % 5 for one in found[:8]} == {4}


def test_the_page_shows_settings_curves_evaluation_and_samples_as_text(runs, tmp_path):
    config = runs[1] / "config.yaml"
    config.write_text(config.read_text().replace("model: ", "model: '<b>' #"))
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["compare", *map(str, runs), "--html", str(page)])
    assert done.exit_code == 0
    text = page.read_text()
    assert "<td>max_staleness</td><td>0</td><td>1</td>" in text and "&lt;b&gt;" in text
    assert 'aria-label="reward total mean by step"' in text and "photo-4" in text
    assert "<script" not in text


def test_a_folder_without_a_run_is_refused(tmp_path, runs):
    with pytest.raises(UserError, match="give two run directories"):
        compare_runs((runs[0], tmp_path))
