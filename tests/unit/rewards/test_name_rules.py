"""What the gazetteer decides about names before an encoder is asked: claims of states on a place,
conclusions that hold together."""

from __future__ import annotations

import pytest

from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.rewards.names import claimed, same_place
from geoagent_rl.rewards.semantic import pairs
from geoagent_rl.rewards.services import LevelPair

pytestmark = pytest.mark.timeout(300)  # the first test may pack the gazetteer


@pytest.fixture(scope="module")
def gazetteer():
    gazetteer = Gazetteer.open()
    yield gazetteer
    gazetteer.close()


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("Ukraine", ("Russia", "Crimea", "Simferopol"), True),
        ("Russia", ("Ukraine", "Crimea", "Simferopol"), True),
        ("Russia", ("Ukraine", "Lviv Oblast", "Lviv"), False),
        ("Ukraine", ("Russia", "Moscow", "Moscow"), False),
        ("Armenia", ("Azerbaijan", "Nagorno-Karabakh", "Stepanakert"), True),
        ("Sudan", ("South Sudan", "Central Equatoria", "Juba"), True),
        ("South Sudan", ("Sudan", "Khartoum", "Khartoum"), False),
        ("Puerto Rico", ("Guam", "", "Hagåtña"), False),  # of one state, and apart
        ("Bavaria", ("Germany", "Bavaria", "Munich"), False),  # no country
        ("Ukraine", ("Russia", "", ""), False),
    ],
)
def test_a_country_is_right_that_claims_the_place(gazetteer, answer, truth, right):
    (country, *_) = pairs((answer, "", ""), truth)
    assert country is not None and claimed(gazetteer, country) == right


@pytest.mark.parametrize(
    ("level", "name", "wider", "together"),
    [
        ("region", "Germany", ("Germany",), False),
        ("region", "Deutschland", ("Germany",), False),
        ("place", "a Bavarian town", ("Germany", "Bavaria"), False),
        ("region", "France", ("France",), False),  # the core of Île-de-France
        ("region", "Luxembourg", ("Luxembourg",), True),
        ("place", "Singapore", ("Singapore", "Singapore"), True),
        ("place", "Berlin", ("Germany", "Berlin"), True),
        ("place", "Berlin", ("Germany", "Bavaria"), False),
        ("region", "Lombardy", ("Germany",), False),
        ("place", "Qzxdorf", ("Germany", "Bavaria"), True),  # a hamlet that nobody knows
        ("place", "Munich", ("", ""), True),
    ],
)
def test_a_conclusion_holds_together_with_the_wider_ones(gazetteer, level, name, wider, together):
    pair = LevelPair(level, name, name, wider)
    assert same_place(gazetteer, [pair]) == [together]
