"""Prediction files as people write them: text answers, other column names, hemispheres, radians."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from geoagent_rl.evaluation.bootstrap import intervals, wilson
from geoagent_rl.evaluation.predictions import read_predictions
from geoagent_rl.evaluation.summary import failures
from geoagent_rl.types import UserError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_text_answers_are_geocoded_and_what_is_no_place_is_no_prediction(tmp_path):
    truth = {"gt_lat": 48.137, "gt_lon": 11.575}
    texts = (
        "Germany; Bavaria; Munich",
        "<think>x</think><answer>Germany; Bavaria; Munich</answer>",
        "Munich (Germany)",
        "unknown",
    )
    rows = [truth | {"uid": str(i), "said": text} for i, text in enumerate(texts)]
    found = read_predictions(write(tmp_path / "p.jsonl", rows), answer="said")
    assert list(found.located) == [True, True, True, False]
    assert (found.km[:3] < 1.0).all()
    assert failures(found) == {"the answer names no known place": 1}


def test_columns_are_found_under_other_names_and_hemispheres_count(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("id;latitude;lng;pred_latitude;pred_lng\n1;22.56S;17.08E;-22.56;17.08\n")
    found = read_predictions(path)
    assert found.km == pytest.approx([0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("header", "used"),
    [
        ("image_id,true_lat,true_lon,lat,lon", (1.0, 2.0)),  # bare names: the prediction's
        ("uid,lat,lon,predicted_lat,predicted_lng", (1.0, 2.0)),  # ... or the truth's
        ("id,gt_lat,gt_lng,latitude,longitude", (1.0, 2.0)),
    ],
)
def test_bare_names_are_whose_are_missing_and_that_is_said(tmp_path, capsys, header, used):
    path = tmp_path / "p.csv"
    path.write_text(f"{header}\na,1,2,3,4\n")
    found = read_predictions(path)
    assert tuple(found.truth[0]) == used and tuple(found.predicted[0]) == (3.0, 4.0)
    said = ", ".join(header.split(",")[1:])
    assert f"positions are read from {said}" in capsys.readouterr().err


def test_bare_names_are_never_both_sides(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("uid,lat,lon\na,1,2\n")
    with pytest.raises(UserError, match="no column 'pred_lat'"):
        read_predictions(path)


def test_radians_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    lat, lon = np.radians(rng.uniform(40, 55, 30)), np.radians(rng.uniform(0, 25, 30))
    rows = [
        {"uid": str(i), "gt_lat": a, "gt_lon": b, "pred_lat": a, "pred_lon": b}
        for i, (a, b) in enumerate(zip(lat, lon, strict=True))
    ]
    with pytest.raises(UserError, match="convert them to degrees"):
        read_predictions(write(tmp_path / "p.jsonl", rows))


def test_the_interval_of_a_share_is_wilsons():
    (none,) = intervals(np.zeros((36, 1)))
    assert (none.mean, none.low) == (0.0, 0.0) and none.high == pytest.approx(0.0964, abs=1e-3)
    (half,) = intervals(np.repeat([0.0, 1.0], 50)[:, None])
    assert (half.low, half.high) == pytest.approx((0.4038, 0.5962), abs=1e-3)


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (0, 36), (3, 36), (2999, 3000)])
def test_shares_have_scipys_interval(hits, rows):
    found = wilson(np.repeat([1.0, 0.0], [hits, rows - hits]))
    theirs = stats.binomtest(hits, rows).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("shape", ["skewed", "with misses"])
def test_means_have_scipys_interval(shape):
    rng = np.random.default_rng(3)
    values = rng.exponential(1000.0, 60) * (rng.random(60) < (1.0 if shape == "skewed" else 0.6))
    (found,) = intervals(values[:, None], rounds=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(4)
    ).confidence_interval
    assert found.low == pytest.approx(theirs.low, rel=0.01)
    assert found.high == pytest.approx(theirs.high, rel=0.01)


def test_the_interval_of_a_skewed_mean_covers_it_nearly_as_often_as_it_says():
    rng, true = np.random.default_rng(1), 1.0
    samples = rng.exponential(true, (200, 40))
    found = [intervals(sample[:, None], rounds=500, seed=i)[0] for i, sample in enumerate(samples)]
    covered = sum(one.low <= true <= one.high for one in found)
    assert covered >= 180  # 95 % of 200 less three standard deviations
