"""A chain of the paper's form written in every other form reads back as what it said."""

import pytest

from geoagent_rl.answers.forms import FORMS, read
from geoagent_rl.answers.parse import Stage, render
from geoagent_rl.answers.rewrite import rewritten

MUNICH = (48.13743, 11.57549)
LEVELS = ("Germany", "Bavaria", "Munich")
STAGES = tuple(Stage(("a clue",), f"Because of this, {x}.", x, "Low") for x in LEVELS)
GIVEN = {  # which of the three levels a form names
    "json_levels": (1, 1, 1),
    "country_city": (1, 0, 1),
    "country_region": (1, 1, 0),
    "lat_lon": (0, 0, 0),
    "country_city_lat_lon": (1, 0, 1),
    "json_lat_lon": (1, 0, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_says_in_the_form_what_the_chain_said(form):
    text = rewritten(render(STAGES, LEVELS), form, MUNICH)
    found = read(text, form)
    assert found.format_ok, found.problem
    assert found.levels == tuple(x if g else "" for x, g in zip(LEVELS, GIVEN[form], strict=True))
    if "lat_lon" in form:
        assert found.point == pytest.approx(MUNICH, abs=0.0005)
    assert all(stage.reasoning in text for stage in STAGES)


def test_a_chain_that_leaves_open_what_the_form_asks_for_is_no_example_of_it():
    chain = render(STAGES, ("Germany", "unknown", "unknown"))
    assert rewritten(chain, "country_city", MUNICH) == ""
    assert rewritten(chain, "country_region", MUNICH) == ""
    assert rewritten(chain, "lat_lon", MUNICH)
