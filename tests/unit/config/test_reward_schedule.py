"""Numbers that change with the step: the published values, the ends, and what is refused."""

from dataclasses import dataclass, field

import pytest

from geoagent_rl.config.reward import ScheduleConfig
from geoagent_rl.config.schedule import problem, value, values, with_values
from geoagent_rl.types import UserError


@dataclass
class Inner:
    tau_km: float = 200.0
    name: str = "x"


@dataclass
class Outer:
    spatial: Inner = field(default_factory=Inner)
    custom: dict = field(default_factory=lambda: {"mine": Inner()})


def test_geospots_length_scale():
    plan = ScheduleConfig("", "geometric", 2000, 25, 1000)
    found = [value(plan, step) for step in (0, 250, 500, 750, 999, 5000)]
    assert found == pytest.approx([2000, 668, 223, 74.5, 25, 25], rel=2e-3)


def test_linear_ends_where_it_says():
    plan = ScheduleConfig("", "linear", 4.0, 1.0, 4)
    assert [value(plan, step) for step in range(6)] == [4.0, 3.0, 2.0, 1.0, 1.0, 1.0]


def test_constant_is_its_start():
    plan = ScheduleConfig("", "constant", 4.0, 1.0, 4)
    assert [value(plan, step) for step in (0, 3, 9)] == [4.0] * 3


def test_piecewise_holds_the_last_point_reached():
    plan = ScheduleConfig("", "piecewise", points=((0, 1.0), (10, 0.5)))
    assert [value(plan, step) for step in (0, 9, 10, 99)] == [1.0, 1.0, 0.5, 0.5]


def test_a_schedule_of_one_step_is_its_end():
    assert value(ScheduleConfig("", "geometric", 2000, 25, 1), 0) == 25


def test_the_values_reach_their_keys_and_nothing_else():
    plans = [
        ScheduleConfig("spatial.tau_km", "linear", 10, 0, 11),
        ScheduleConfig("custom.mine.tau_km", "linear", 7, 7),
    ]
    before = Outer()
    after = with_values(before, values(plans, 5))
    assert after.spatial.tau_km == 5.0 and after.custom["mine"].tau_km == 7.0
    assert before.spatial.tau_km == 200.0 and after.spatial.name == "x"


@pytest.mark.parametrize("key", ["spatial", "spatial.name", "spatial.nothing", "nowhere.x"])
def test_what_is_no_number_is_refused_by_its_key(key):
    with pytest.raises(UserError, match=f"reward.{key} is no number"):
        with_values(Outer(), {key: 1.0})


@pytest.mark.parametrize(
    "plan",
    [
        ScheduleConfig("spatial.tau_km", "piecewise"),
        ScheduleConfig("spatial.tau_km", "piecewise", points=((5, 1.0), (5, 2.0))),
        ScheduleConfig("spatial.tau_km", "geometric", 0.0, 1.0, 10),
    ],
)
def test_impossible_schedules_are_named(plan):
    assert problem(plan).startswith("the schedule of spatial.tau_km")
