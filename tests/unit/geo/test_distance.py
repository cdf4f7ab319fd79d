import numpy as np
import pytest

from geoagent_rl.geo.distance import geoscore, haversine_km


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        ((0, 0), (0, 0), 0.0),
        ((0, 0), (0, 180), np.pi * 6371),  # antipodes
        ((90, 0), (-90, 77), np.pi * 6371),
        ((0, 179.5), (0, -179.5), np.pi * 6371 / 180),  # across the date line
        ((48.8566, 2.3522), (52.52, 13.405), 877.46),  # Paris - Berlin
    ],
)
def test_distances_on_a_sphere_of_6371_km(a, b, km):
    assert haversine_km(*a, *b) == pytest.approx(km, abs=0.01)
    assert haversine_km(*map(float, a), *map(float, b)) == pytest.approx(
        km, abs=0.01
    )  # the way without NumPy


def test_arrays_broadcast_and_nan_stays():
    table = haversine_km(np.array([[0.0], [10.0]]), 0.0, np.array([0.0, 10.0, np.nan]), 0.0)
    assert table.shape == (2, 3)
    assert table[0, 0] == 0 and table[0, 1] == table[1, 0] and np.isnan(table[:, 2]).all()
    assert np.isnan(haversine_km(float("nan"), 0.0, 0.0, 0.0))


def test_geoscore_falls_from_5000_by_e_per_scale():
    assert geoscore(0) == 5000
    assert geoscore(1805) == pytest.approx(5000 / np.e)  # the paper's 5000 exp(-10 d / 18050)
    assert geoscore(1492.7, 1492.7) == pytest.approx(5000 / np.e)
    assert (np.diff(geoscore(np.arange(0, 20000, 100))) < 0).all()
    with pytest.raises(ValueError, match="positive"):
        geoscore(1, 0)
