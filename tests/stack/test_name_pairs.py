"""Names of one place are told from names of two, by the gazetteer and the default encoder, over the
committed table.
"""

from __future__ import annotations

import pytest

from geoagent_rl.geo.compare import compare
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.rewards import encoder, names
from tests.support.name_pairs import auc, best_threshold, read_pairs


@pytest.fixture(scope="module")
def gazetteer():
    return Gazetteer.open()


def test_the_table_is_large_and_in_many_languages():
    table = read_pairs()
    assert len(table) >= 120 and len({row.language for row in table}) >= 20
    assert sum(not row.same for row in table) >= 60


def test_names_first_reaches_an_auc_of_97_percent(gazetteer):
    table, use = read_pairs(), encoder.load(encoder.USE)
    pairs, same = [row.pair for row in table], [row.same for row in table]
    alone, first = (
        [s.value for s in names.similarities(gazetteer, use, pairs, names_first)]
        for names_first in (False, True)
    )
    assert auc(first, same) >= 0.97 > auc(alone, same)
    assert best_threshold(first, same)[0] >= 0.95


def test_what_the_gazetteer_says_does_not_depend_on_the_order_and_is_seldom_wrong(gazetteer):
    wrong = 0
    for row in read_pairs():
        pair = row.pair
        said = compare(gazetteer, pair.level, pair.a, pair.b, *pair.within)
        assert said is compare(gazetteer, pair.level, pair.b, pair.a, *pair.within)
        wrong += said is not None and said is not row.same
    assert wrong <= 2


@pytest.mark.parametrize(
    ("level", "a", "b", "within", "known"),
    [
        ("country", "Mexico", "New Mexico", (), False),
        ("country", "Austria", "Australia", (), False),
        ("country", "Hong Kong", "China", (), True),  # a territory, named by its state
        ("country", "South America", "South Africa", (), False),  # a continent is no country
        ("region", "King County", "Washington", ("United States",), True),  # a district within it
        (
            "region",
            "Washington County",
            "Oregon",
            ("United States",),
            None,
        ),  # or within many others
        ("country", "Hawaii", "United States", (), None),  # a region given as the country
        ("country", "Qzxland", "Germany", (), None),
        ("region", "Saxony", "Bavaria", ("Germany",), False),
        ("place", "Paris, Texas", "Paris, France", (), False),
        (
            "place",
            "Brooklyn",
            "New York City",
            ("United States", "New York"),
            None,
        ),  # close together
        (
            "place",
            "Hamburg",
            "Munich",
            ("Germany", "Bavaria"),
            False,
        ),  # in another region than the truth
        ("place", "Tokyo", "Munich", ("Germany", "Bavaria"), False),  # in another country
        ("place", "Kaufingerstraße", "Munich", ("Germany", "Bavaria"), None),
    ],
)
def test_known_apart_or_open(gazetteer, level, a, b, within, known):
    assert compare(gazetteer, level, a, b, *within) is known


def test_a_name_of_two_countries_is_not_known_apart_from_either(gazetteer):
    for congo in ("Republic of the Congo", "Democratic Republic of the Congo"):
        assert compare(gazetteer, "country", "Kongo", congo) is not False
