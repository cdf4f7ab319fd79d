"""What a distance earns under every published curve, against values worked out from the papers and
the codes' formulas by hand.
"""

import math

import pytest

from geoagent_rl.rewards.distance import earned

KM = [0, 1, 10, 25, 100, 200, 475, 750, 1625, 2000, 2500, 2501, 5000, 20015]
KNOTS = {
    "Geo-R": [(0, 1.0), (750, 0.5), (3000, 0.2), (20100, 0.2 - 0.2 * 17100 / 17000)],
    "REVERSE": [(1, 1.0), (25, 0.8), (200, 0.6), (750, 0.4), (2500, 0.2)],
    "SpotAgent": [(1, 1.0), (25, 0.75), (200, 0.0)],
}
STEPS = [(0.5, 1.0), (2, 0.8), (10, 0.6), (25, 0.4), (200, 0.2), (750, 0.1)]


def row(shape, scale_km=0.0, cut_km=0.0, points=()):
    return [earned(km, shape, scale_km, cut_km, points) for km in KM]


CURVES = {
    "exponential, 200, cut": (
        row("exponential", 200, 2000),
        [1, 0.9950, 0.9512, 0.8825, 0.6065, 0.3679, 0.0930, 0.0235, 0.0003, 0, 0, 0, 0, 0],
    ),
    "exponential, 1805, cut": (
        row("exponential", 1805, 18050),
        [1, 0.9994, 0.9945, 0.9862, 0.9461, 0.8951, 0.7686, 0.6600, 0.4065]
        + [0.3302, 0.2503, 0.2502, 0.0627, 0],
    ),
    "logistic": (
        row("logistic", 200),
        [1, 0.9975, 0.9750, 0.9376, 0.7551, 0.5379, 0.1702, 0.0460, 0.0006, 0.0001, 0, 0, 0, 0],
    ),
    "Geo-R": (
        row("knots", points=KNOTS["Geo-R"]),
        [1, 0.9993, 0.9933, 0.9833, 0.9333, 0.8667, 0.6833, 0.5, 0.3833]
        + [0.3333, 0.2667, 0.2665, 0.1765, -0.0002],
    ),
    "REVERSE": (
        row("knots", points=KNOTS["REVERSE"]),
        [1, 1, 0.9250, 0.8, 0.7143, 0.6, 0.5, 0.4, 0.3, 0.2571, 0.2, 0, 0, 0],
    ),
    "SpotAgent": (
        row("knots", points=KNOTS["SpotAgent"]),
        [1, 1, 0.9063, 0.75, 0.4286, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
    "Thinking with Map": (
        row("steps", points=STEPS),
        [1, 0.8, 0.4, 0.2, 0.2, 0.1, 0.1, 0, 0, 0, 0, 0, 0, 0],
    ),
}


@pytest.mark.parametrize("name", CURVES)
def test_published_values(name):
    found, expected = CURVES[name]
    assert found == pytest.approx(expected, abs=6e-5)


def test_no_scale_overflows():
    assert earned(20_000.0, "logistic", 0.001) == 0.0
    assert math.isfinite(earned(20_000.0, "exponential", 0.001))
