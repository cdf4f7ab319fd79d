"""The order in which photographs are taken: every one of them, deterministic, easy ones first,
domains by their share.
"""

import doctest
from collections import Counter

import pytest

from geoagent_rl.config.sections import CurriculumConfig as Curriculum
from geoagent_rl.data import curriculum
from geoagent_rl.data.curriculum import Item, PromptOrder
from geoagent_rl.metrics.table import describe, is_metric
from geoagent_rl.types import Prompt, Truth, UserError

TRUTH = Truth("", "", "", 0.0, 0.0)


def items(n, domain="", ease=lambda i: None):
    return [Item(Prompt(f"{domain}{i}", "", TRUTH), domain, ease(i)) for i in range(n)]


def uids(order, places):
    return [order(i).uid for i in places]


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(curriculum).failed == 0


def test_an_epoch_is_a_permutation_and_the_next_another():
    order = PromptOrder(items(20), seed=3)
    first, second = uids(order, range(20)), uids(order, range(20, 40))
    assert sorted(first) == sorted(second) and first != second


@pytest.mark.parametrize(
    "plan", [Curriculum(), Curriculum(stages=4), Curriculum(mix={"a": 2, "b": 1})]
)
def test_a_run_that_starts_in_the_middle_goes_on_with_the_same(plan):
    pool = items(9, "a", ease=float) + items(5, "b", ease=float)
    whole = uids(PromptOrder(pool, 7, plan), range(60))
    assert uids(PromptOrder(pool, 7, plan), range(31, 60)) == whole[31:]
    assert uids(PromptOrder(pool, 8, plan), range(60)) != whole


def test_stages_go_from_easy_to_hard_and_are_shuffled_within():
    pool = items(40, ease=float)  # the higher the easier
    order = uids(PromptOrder(pool, 0, Curriculum(stages=4)), range(40))
    numbers = [int(uid) for uid in order]
    assert sorted(numbers[:10], reverse=True) == list(range(39, 29, -1))
    assert sorted(numbers[30:]) == list(range(10))
    assert numbers[:10] != sorted(numbers[:10], reverse=True)


def test_photographs_without_a_rating_come_last():
    pool = items(4, ease=float) + items(4, "unrated")
    order = uids(PromptOrder(pool, 0, Curriculum(stages=2)), range(8))
    assert all(uid.startswith("unrated") for uid in order[4:])


def test_domains_have_their_share_in_every_round_and_their_own_epochs():
    pool = items(30, "street") + items(2, "map")
    order = PromptOrder(pool, 0, Curriculum(mix={"street": 3, "map": 1}))
    for start in range(0, 40, 4):
        row = uids(order, range(start, start + 4))
        assert Counter(uid.rstrip("0123456789") for uid in row) == {"street": 3, "map": 1}
    maps = [uid for uid in uids(order, range(16)) if uid.startswith("map")]
    assert sorted(maps[:2]) == sorted(maps[2:]) == ["map0", "map1"]


@pytest.mark.parametrize(
    ("pool", "plan", "word"),
    [
        ([], Curriculum(), "no usable sample"),
        (items(3), Curriculum(stages=2), "curriculum.by"),
        (items(3, "street"), Curriculum(mix={"map": 1}), "there are: street"),
    ],
)
def test_what_cannot_be_ordered_is_refused(pool, plan, word):
    with pytest.raises(UserError, match=word):
        PromptOrder(pool, 0, plan)


def test_where_a_run_stands_in_its_curriculum_is_a_metric_of_every_step():
    pool = items(4, "street view", ease=float) + items(2, "map", ease=float)
    order = PromptOrder(pool, 0, Curriculum(stages=2, mix={"street view": 2, "map": 1}))
    row = order.reported(range(3, 6))
    shares = {
        "domain_share_street_view": pytest.approx(2 / 3),
        "domain_share_map": pytest.approx(1 / 3),
    }
    assert row == {"curriculum_epoch": 1, "curriculum_stage": 2, **shares}
    assert (
        order.reported(range(6, 9)) | shares
        == {"curriculum_epoch": 2, "curriculum_stage": 1} | shares
    )
    assert all(map(is_metric, row)) and "street_view" in describe("domain_share_street_view")[1]
    assert PromptOrder(pool, 0).reported(range(3)) == {}
