import csv

import numpy as np
import pytest

from geoagent_rl.geo.suspect import suspicions


def columns(path, *names):
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [[row[name] for row in rows] for name in names]


def numbers(path, *names):
    return [np.array(column, dtype=float) for column in columns(path, *names)]


def test_a_swapped_header_is_suspected_on_evidence(shared_data):
    lon, lat = numbers(
        shared_data / "im2gps_predictions" / "swapped_header_fixture.csv", "LON", "LAT"
    )
    (said,) = suspicions(lat, lon)
    assert "swapped" in said and "16 of 60 latitudes are beyond 90" in said
    assert suspicions(lon, lat) == []
    plausible = np.abs(lat) <= 90  # even where every number could be a latitude
    (said,) = suspicions(lat[plausible], lon[plausible])
    assert "swapped" in said and "near a town" in said


@pytest.mark.parametrize(
    "path",
    [
        "im2gps_predictions/im2gps_meta.csv",
        "im2gps_predictions/im2gps3k_meta.csv",
        "mp16_gps_gallery/coordinates.csv",
    ],
)
def test_real_photographs_are_not_suspected(shared_data, path):
    names = ("LAT", "LON") if "mp16" in path else ("lat", "lon")
    lat, lon = numbers(shared_data / path, *names)
    assert suspicions(lat, lon) == []
    assert "swapped" in suspicions(lon, lat)[0]


def test_radians_are_suspected(shared_data):
    lat, lon = numbers(
        shared_data / "osv5m_predictions" / "radians_fixture.csv", "true_lat", "true_lon"
    )
    (said,) = suspicions(lat, lon)
    assert "radians" in said and "36 of 36" in said
    assert suspicions(np.degrees(lat), np.degrees(lon)) == []


def test_countries_settle_what_coordinates_leave_open(shared_data):
    lat, lon = (
        np.array([39.9, 36.9, 38.4, 37.0, 40.6]),
        np.array([32.9, 30.7, 27.1, 35.3, 33.6]),
    )  # Turkey
    for name in ("TR", "Türkiye"):
        assert suspicions(lat, lon, [name] * 5) == []
        assert "20% when" not in suspicions(lon, lat, [name] * 5)[0]
        assert "swapped" in suspicions(lon, lat, [name] * 5)[0]
    path = shared_data / "osv5m_streetview" / "metadata.csv"
    lat, lon = numbers(path, "lat", "lon")
    (countries,) = columns(path, "country_iso2")
    assert suspicions(lat, lon, countries) == []
    assert "only" in suspicions(lat, lon, countries[::-1])[0]  # labels of other rows


def test_missing_positions():
    assert suspicions([], []) == []
    assert suspicions([np.nan], [np.nan]) == []
    (said,) = suspicions([0.0, 48.1, 48.2], [0.0, 11.5, 11.6])
    assert "1 of 3 rows are at exactly 0, 0" in said
