"""Which published policy versions a learner removes."""

from pathlib import Path

from actors.publishing import outdated


def versions(*numbers):
    return [Path(f"/w/v{n:06d}") for n in numbers]


def test_the_newest_versions_are_kept():
    assert outdated(versions(1, 2, 3, 4), Path("/w/v000004"), 2) == versions(1, 2)
    assert outdated(versions(4), Path("/w/v000004"), 2) == []


def test_a_learner_that_went_back_keeps_what_it_has_just_published():
    assert outdated(versions(18, 20, 21), Path("/w/v000018"), 2) == versions(20, 21)
    assert outdated(versions(17, 18, 19, 21), Path("/w/v000019"), 2) == versions(17, 21)
