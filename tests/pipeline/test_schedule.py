"""What a step takes: `plan` and the simulated cluster, with the real driver, say the same, and all
GPUs taking turns is quicker than the schedules of others."""

import pytest

from tests.benchmarks.schedule import HYBRID, LAYOUTS, MEANWHILE, SERIAL, planned, simulate
from tests.support.simulated_costs import costs_of

OURS = next(iter(LAYOUTS[8]))


@pytest.fixture(scope="module")
def eight():
    return {name: simulate(name, overrides, None) for name, overrides in LAYOUTS[8].items()}


def test_a_step_of_eight_gpus_takes_at_most_nine_seconds(eight):
    ours = eight[OURS]
    assert ours.step_s <= 9.0 and ours.busy_s / ours.step_s >= 0.7
    others = [s.step_s for name, s in eight.items() if name != OURS]
    assert ours.step_s < min(others) and eight[HYBRID].step_s < eight[SERIAL].step_s


def test_the_plan_says_what_the_driver_does(eight):
    streamed = {name: s for name, s in eight.items() if s.parts and name != MEANWHILE}
    assert len(streamed) == 4
    for name, s in streamed.items():
        assert planned(s.costs)["step_seconds"] == pytest.approx(s.step_s, rel=0.15), name


def test_a_step_of_64_gpus_takes_at_most_sixteen_seconds():
    """By the plan; tests.benchmarks.schedule has the driver itself, in a minute."""
    costs = costs_of(*next(iter(LAYOUTS[64].values())).split())
    assert planned(costs)["step_seconds"] <= 16.0
