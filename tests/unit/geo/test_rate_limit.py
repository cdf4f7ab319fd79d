"""Rate limits of a remote geocoder within one process; tests/stack/test_shared_rate_limit.py holds
Redis to the same rule.
"""

from __future__ import annotations

import pytest

from geoagent_rl.geo.rate_limit import Limit, LocalRateLimiter
from geoagent_rl.types import InfraError

MIDNIGHT = 20_000 * 86_400.0


class Clock:
    now = MIDNIGHT + 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def turns(clock):
    return LocalRateLimiter(clock)


def test_a_full_bucket_then_the_even_rate(turns, clock):
    limit = Limit(10.0, 0, 30.0)
    waits = [turns.reserve(["a"], limit)[1] for _ in range(30)]
    assert waits[:10] == pytest.approx([0.0] * 10, abs=1e-4)
    assert waits[10:] == pytest.approx([0.1 * i for i in range(1, 21)], abs=1e-4)
    clock.now += 100
    assert [turns.reserve(["a"], limit)[1] for _ in range(11)][9:] == pytest.approx(
        [0.0, 0.1], abs=1e-4
    )


def test_slow_rates_have_no_burst(turns):
    waits = [turns.reserve(["a"], Limit(0.5, 0, 30.0))[1] for _ in range(3)]
    assert waits == pytest.approx([0.0, 2.0, 4.0])


def test_nobody_waits_longer_than_agreed(turns):
    limit = Limit(1.0, 0, 3.0)
    assert [turns.reserve(["a"], limit)[1] for _ in range(4)] == pytest.approx([0.0, 1.0, 2.0, 3.0])
    for _ in range(3):  # and who is refused takes nobody's turn
        with pytest.raises(InfraError, match="rate_per_s.*free in 4 s"):
            turns.reserve(["a"], limit)


def test_the_key_that_is_free_first_is_used_and_equals_alternate(turns):
    limit = Limit(1.0, 0, 30.0)
    assert [turns.reserve(["a", "b", "c"], limit)[0] for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    turns.pause_now("b", 100.0, "quota")
    assert [turns.reserve(["a", "b", "c"], limit)[0] for _ in range(4)] == [0, 2, 0, 2]


def test_a_pause_ends_and_is_explained(turns, clock):
    turns.pause_now("a", 100.0, "the quota is used up (402)")
    turns.pause_now("a", 10.0, "shorter")
    with pytest.raises(InfraError, match="402.*free in 100 s"):
        turns.reserve(["a"], Limit(1.0, 0, 30.0))
    clock.now += 80
    assert turns.reserve(["a"], Limit(1.0, 0, 30.0))[1] == pytest.approx(20.0)
    assert turns.reserve(["a"], Limit(1.0, 0, 30.0))[1] == pytest.approx(
        21.0
    )  # no stampede at its end


def test_a_budget_is_for_a_utc_day(turns, clock):
    limit = Limit(1000.0, 3, 30.0)
    for _ in range(3):
        turns.reserve(["a"], limit)
    with pytest.raises(InfraError, match="daily_budget.*free in 85400 s"):
        turns.reserve(["a"], limit)
    assert turns.reserve(["a", "b"], limit)[0] == 1
    clock.now += 86_400
    assert turns.reserve(["a"], limit) == (0, 0.0)


def test_a_share_of_a_limit_is_never_nothing():
    assert Limit(10.0, 5, 1.0).share(0.1) == Limit(1.0, 1, 1.0)
    assert Limit(10.0, 0, 1.0).share(0.1).daily_budget == 0
