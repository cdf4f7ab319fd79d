"""Scoring and comparing prediction files: intervals, buckets, failures, calibration, and the
paper's tables beside.
"""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli.local import app
from geoagent_rl.evaluation.bootstrap import intervals, paired
from geoagent_rl.evaluation.buckets import band, labels, order
from geoagent_rl.evaluation.calibration import calibration, concordance
from geoagent_rl.evaluation.predictions import Predictions, read_predictions
from geoagent_rl.evaluation.published import ABLATION, GEOSEEK_VAL, IM2GPS3K, TABLES
from geoagent_rl.evaluation.summary import compare, recorded, summarise
from geoagent_rl.pages.evaluation import write_eval_page
from geoagent_rl.types import UserError

MEASURED = ("1", "25", "200", "750", "2500", "geoscore")


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


@pytest.fixture
def im2gps(shared_data):
    return shared_data / "im2gps_predictions"


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        (found,) = intervals((rng.random((150, 1)) < 0.3).astype(float), 400, seed)
        held += found.low <= 0.3 <= found.high
    assert 182 <= held <= 200  # 95 % of 200 is 190, sigma 3


def test_a_paired_difference_is_sharper_than_two_separate_intervals():
    rng = np.random.default_rng(1)
    hard = rng.random((500, 1)) < 0.5
    a = (hard & (rng.random((500, 1)) < 0.98)).astype(float)
    b = (hard | (rng.random((500, 1)) < 0.05)).astype(float)
    ((difference, p),) = paired(a, b)
    assert difference.mean == pytest.approx(b.mean() - a.mean()) and difference.low > 0 and p < 0.01
    (alone,) = intervals(b)
    assert difference.high - difference.low < 0.6 * (alone.high - alone.low)
    ((same, p),) = paired(a, a)
    assert (same.mean, same.low, same.high, p) == (0, 0, 0, 1)


def test_real_systems_compared_on_im2gps3k(im2gps, tmp_path):
    files = (im2gps / "im2gps3k/base_L-m.csv", f"finest={im2gps / 'im2gps3k/base_M-fstar.csv'}")
    table = json.loads(run("eval", "compare", *files, "--json", "--rounds", 500, "--html", tmp_path / "c.html",
                           "--by", "continent"))  # fmt: skip
    expected = json.loads((im2gps / "expected_metrics.json").read_text())["im2gps3k"]
    assert table["n"] == 2997 and list(table["systems"]) == ["base_L-m", "finest"]
    footers = [
        expected[name]["source_footer"]["city acc (25km)"] for name in ("base_L-m", "base_M-fstar")
    ]
    city = table["differences"]["finest"]["25"]
    assert city["mean"] == pytest.approx(footers[1] - footers[0], abs=1e-5)
    assert (
        city["low"] > 0 and city["p"] < 0.01
    )  # the finer model is better in cities, and no better at countries
    assert table["differences"]["finest"]["750"]["p"] > 0.2
    for system in table["systems"].values():
        groups = system["buckets"]["continent"]
        assert sum(group["n"] for group in groups.values()) == 2997
        hits = sum(group["n"] * group["hit"]["25"] for group in groups.values())
        assert hits / 2997 == pytest.approx(system["hit"]["25"])
        assert {"Europe", "Asia", "North America"} <= set(groups)
    page = (tmp_path / "c.html").read_text()
    assert page.count('class="world"') == 2 and "finest" in page and page.count("<script") == 1


def test_score_shows_the_papers_table_and_counts_failures(im2gps, tmp_path):
    said = run("eval", "score", im2gps / "im2gps3k/base_M-m.csv", "--published", "im2gps3k")
    assert (
        "GeoAgent                   40.75   58.57   76.21   89.90" in said and "* base_M-m" in said
    )
    (tmp_path / "p.jsonl").write_text(
        '{"uid": "1", "gt_lat": 1, "gt_lon": 2, "pred_lat": 1, "pred_lon": 2, "failure": ""}\n'
        '{"uid": "2", "gt_lat": 1, "gt_lon": 2, "pred_lat": null, "pred_lon": null, "failure": "no answer"}\n'
        '{"uid": "3", "gt_lat": 1, "gt_lon": 2, "pred_lat": null, "pred_lon": null, "failure": "<b>photograph"}\n'
    )
    said = run("eval", "score", tmp_path / "p.jsonl", "--html", tmp_path / "p.html")
    assert "3 predictions, 2 failed" in said and "failed 1: no answer" in said
    assert "&lt;b&gt;photograph" in (tmp_path / "p.html").read_text()
    assert "15.69" in run("eval", "published", "ablation")


def test_a_manifest_adds_truth_scores_and_classes_by_uid(tmp_path):
    rows = [{"uid": str(i), "image": f"{i}.jpg", "lat": 48.1 if i % 2 else -1.3, "lon": 11.6 if i % 2 else 36.8,
             "country": "Germany" if i % 2 else "Kenya", "locatability": float(i), "scene": "urban"}
            for i in range(11)]  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with (tmp_path / "p.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "pred_lat", "pred_lon"))
        writer.writerows((i, 48.1, 11.6) for i in range(11))
    said = run("eval", "score", tmp_path / "p.csv", "--manifest", tmp_path, "--by", "locatability,continent,country",
               "--json")  # fmt: skip
    groups = json.loads(said)["buckets"]
    assert {k: g["n"] for k, g in groups["locatability"].items()} == {
        "0 unlocatable": 1, "1-3 extremely low": 3, "4-5 low": 2, "6-7 moderate": 2, "8-9 high": 2,
        "10 extremely high": 1}  # fmt: skip
    assert (
        groups["continent"]["Europe"]["hit"]["1"] == 1
        and groups["continent"]["Africa"]["hit"]["2500"] == 0
    )
    assert list(groups["country"]) == ["Kenya", "Germany"]
    (tmp_path / "q.csv").write_text("id,pred_lat,pred_lon\n99,1,2\n")
    with pytest.raises(UserError, match="1 uids are not in .* .first: 99"):
        run("eval", "score", tmp_path / "q.csv", "--manifest", tmp_path)


@pytest.mark.parametrize(("score", "name"), [
    (0, "0 unlocatable"), (0.5, "1-3 extremely low"), (3.9, "1-3 extremely low"), ("6.5", "6-7 moderate"),
    (10, "10 extremely high"), (None, "(unknown)"), (11, "(unknown)"), ("high", "(unknown)"),
])  # fmt: skip
def test_locatability_bands_are_the_papers(score, name):
    assert band(score) == name


def test_a_prediction_file_of_before_is_read_and_summarised_as_then(tmp_path):
    """As `eval run` wrote them before rewards had columns of their own."""
    row = {
        "uid": "a", "gt_lat": 1.0, "gt_lon": 2.0, "pred_lat": 1.0, "pred_lon": 2.0, "country": "X",
        "region": "", "place": "", "scene": "", "locatability": None, "answer": "X; Y; Z", "text": "...",
        "format_valid": 1.0, "finish_reason": "stop", "uncertainty_country": "Low", "right_country": 1.0,
        "right_region": 0.0, "right_place": 0.0, "consistency": 0.25, "agrees": [True, False, True],
        "completions": 1, "located": 1, "spread_km": None, "level": "place", "failure": "",
    }  # fmt: skip
    lost = {
        **row,
        "uid": "b",
        "pred_lat": None,
        "pred_lon": None,
        "consistency": 0.75,
        "failure": "x",
    }
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in (row, lost)))
    table = summarise(read_predictions(tmp_path / "p.jsonl"), 1805.0)
    assert (table["n"], table["failed"], table["failures"]) == (2, 1, {"x": 1})
    means = {"format_valid": 1.0, "country_acc": 1.0, "region_acc": 0.0, "place_acc": 0.0}
    assert recorded(table) == means | {"reward_consistency": 0.5}


def made(name, km, uncertainty=None, truth=None):
    """Predictions on the equator at the given distances; None failed."""
    n = len(km)
    lon = [np.nan if d is None else np.degrees(d / 6371) for d in km]
    columns = {} if uncertainty is None else {"uncertainty_place": uncertainty}
    points = np.zeros((n, 2)) if truth is None else truth
    return Predictions(
        name, [str(i) for i in range(n)], points, np.stack([np.zeros(n), lon], axis=1), columns
    )


def test_uncertainty_that_orders_errors_is_told_from_one_that_says_nothing():
    says = ["Low"] * 3 + ["Medium"] * 2 + ["High"] * 3
    found = calibration(made("a", [1, 2, 30, 50, 60, 500, 900, None], says))["place"]
    assert found["concordance"] == 1 and found["right_within_km"] == 25
    assert found["by"]["Low"] == {"n": 3, "right": 2 / 3, "median_km": pytest.approx(2)}
    assert found["by"]["High"]["median_km"] == pytest.approx(900)
    rng = np.random.default_rng(0)
    assert concordance(rng.integers(0, 3, 3000), rng.random(3000)) == pytest.approx(0.5, abs=0.03)
    assert concordance(np.array([0, 1]), np.array([5.0, 5.0])) == 0.5
    assert concordance(np.array([1, 1]), np.array([1.0, 2.0])) is None
    assert calibration(made("a", [1, 2])) == {}


def test_comparison_is_on_common_photographs_and_refuses_other_truths():
    a, b = made("a", [1, 100, None]), made("b", [1, 1]).subset(np.array([1, 0]))
    table = compare([a, b], 1805.0, rounds=200)
    assert table["n"] == 2 and table["left_out"] == {"a": 1, "b": 0}
    assert table["differences"]["b"]["25"]["mean"] == 0.5
    with pytest.raises(
        UserError, match="a and c disagree about the true position of 1 by 111.2 km"
    ):
        compare([a, made("c", [1, 1], truth=np.array([[0.0, 0.0], [1.0, 0.0]]))], 1805.0)
    with pytest.raises(UserError, match="same name"):
        compare([a, a], 1805.0)
    other = Predictions("d", ["x"], np.zeros((1, 2)), np.zeros((1, 2)), {})
    with pytest.raises(UserError, match="no uid in common"):
        compare([a, other], 1805.0)


def test_a_file_with_a_uid_twice_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("uid,gt_lat,gt_lon,pred_lat,pred_lon\n7,1,2,3,4\n7,1,2,3,4\n")
    with pytest.raises(UserError, match="uid 7 appears twice"):
        read_predictions(tmp_path / "p.csv")


def test_everything_failed_is_still_a_table_and_a_page(tmp_path):
    nothing = made("<none>", [None, None])
    table = summarise(nothing, 1805.0, ("scene", "locatability"))
    assert table["failures"] == {"no prediction in the file": 2} and table["buckets"] == {}
    write_eval_page(tmp_path / "p.html", [nothing], {"systems": {"<none>": table}})
    assert "&lt;none&gt;" in (tmp_path / "p.html").read_text()
    assert labels(nothing, "scene") is None
    assert order("scene", ["a", "b", "b", "(unknown)"]) == ["b", "a", "(unknown)"]


def test_published_tables_are_sound():
    """Shares rise with the distance; the full model is the best row of the ablation but in no
    figure of its own.
    """
    for table in TABLES.values():
        for row in table:
            known = [value for value in row.hit if value is not None]
            assert known == sorted(known) and all(0 < value < 100 for value in known)
    assert all(
        best >= row.hit[i] for row in ABLATION for i, best in enumerate(ABLATION[-1].hit[:3])
    )
    assert IM2GPS3K[-1].system == GEOSEEK_VAL[-1].system == "GeoAgent"
    assert set(MEASURED) == set(summarise(made("a", [1.0]), 1805.0)["intervals"])
