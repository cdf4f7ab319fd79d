import csv
import json

import numpy as np
import pandas
import pytest

from geoagent_rl.evaluation.metrics import score_table
from geoagent_rl.evaluation.predictions import NAMES, read_predictions
from geoagent_rl.geo.distance import EARTH_RADIUS_KM
from geoagent_rl.types import UserError

FOOTERS = {
    "1": "street acc (1km)",
    "25": "city acc (25km)",
    "200": "region acc (200km)",
    "750": "country acc (750km)",
    "2500": "continent acc (2500km)",
}


def test_the_published_im2gps_tables_are_reproduced(shared_data, capsys):
    folder = shared_data / "im2gps_predictions"
    expected = json.loads((folder / "expected_metrics.json").read_text())
    for dataset, tables in expected.items():
        for name, published in tables.items():
            table = read_predictions(folder / dataset / f"{name}.csv").table()
            footer = published["source_footer"]
            assert (table["n"], table["failed"]) == (published["n"], 0)
            assert table["hit"] == pytest.approx(
                {km: footer[key] for km, key in FOOTERS.items()}, abs=1e-6
            )
            assert table["mean_km"] == pytest.approx(footer["mean deviation (km)"], abs=0.006)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("prefix", "score"), [("", "score_5000exp_d_1492.7"), ("base_", "base_score")]
)
def test_the_published_osv5m_geoscores_are_reproduced(shared_data, prefix, score):
    path = shared_data / "osv5m_predictions" / "predictions.csv"
    names = ("true_lat", "true_lon", f"{prefix}pred_lat", f"{prefix}pred_lon")
    table = read_predictions(path, names).table(1492.7)
    with path.open(encoding="utf-8") as file:
        published = [float(row[score]) for row in csv.DictReader(file)]
    assert table["geoscore"] == pytest.approx(np.mean(published), rel=1e-12)
    assert table["geoscore_scale_km"] == 1492.7


def test_a_hit_is_at_most_the_threshold():
    degrees = np.degrees(np.array([1, 25, 200, 750, 2500]) / EARTH_RADIUS_KM)
    table = score_table(np.zeros(5), np.zeros(5), degrees * (1 - 1e-12), np.zeros(5))
    assert table["hit"] == {"1": 0.2, "25": 0.4, "200": 0.6, "750": 0.8, "2500": 1.0}


def test_failed_predictions_are_misses_and_are_counted_apart():
    predicted = [0.0, np.nan, np.inf, 91.0, 0.0]
    table = score_table([0.0] * 5, [0.0] * 5, predicted, [0.0, 0.0, 0.0, 0.0, 181.0])
    assert (table["n"], table["failed"]) == (5, 4)
    assert table["hit"]["1"] == 0.2 and table["geoscore"] == 1000.0
    assert table["mean_km"] == table["median_km"] == 0.0
    nothing = score_table([0.0], [0.0], [np.nan], [np.nan])
    assert nothing["mean_km"] is None and nothing["hit"]["2500"] == 0.0 and nothing["failed"] == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_table(tmp_path, suffix):
    frame = pandas.DataFrame(
        {"gt_lat": [1.5, 2], "gt_lon": [3, 4], "pred_lat": [1.5, None], "pred_lon": [3.0, 4.0]}
    )
    path = tmp_path / f"predictions{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    table = read_predictions(path).table()
    assert (table["n"], table["failed"], table["hit"]["1"]) == (2, 1, 0.5)


def test_what_cannot_be_scored_is_one_clear_error(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("gt_lat,gt_lon,y,x\n1,2,3,4\n")
    with pytest.raises(
        UserError, match=r"no column 'pred_lat'; its columns are: gt_lat, gt_lon, y, x"
    ):
        read_predictions(path)
    with pytest.raises(UserError, match="no prediction file"):
        read_predictions(tmp_path / "absent.csv")
    with pytest.raises(UserError, match=r"\.csv, \.tsv, \.jsonl, \.parquet"):
        read_predictions(tmp_path / "p.xlsx")
    path.write_text("gt_lat,gt_lon,lat,lon\n1,2,3,4\n,2,3,4\n")
    with pytest.raises(UserError, match="row 2 of 2 has no usable true position"):
        read_predictions(path, ("gt_lat", "gt_lon", "lat", "lon"))
    path.write_text("gt_lat,gt_lon,lat,lon\n")
    with pytest.raises(UserError, match="no rows"):
        read_predictions(path, ("gt_lat", "gt_lon", "lat", "lon"))


def test_radians_are_refused_with_evidence(shared_data):
    path = shared_data / "osv5m_predictions" / "radians_fixture.csv"
    with pytest.raises(UserError, match=r"\(true_lat, true_lon\).*radians: 36 of 36 rows.*convert"):
        read_predictions(path, ("true_lat", "true_lon", *NAMES[2:]))
