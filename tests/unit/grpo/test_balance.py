"""Shares of ranks: everything is learnt once, whole groups where there are enough, loads even."""

import random

import pytest

from geoagent_rl.grpo.balance import assign, cost
from geoagent_rl.grpo.samples import TrainSample

BALANCE = 32_512  # Qwen2.5-VL-7B


def groups(number: int, size: int, seed: int = 0) -> list[list[TrainSample]]:
    rng, out = random.Random(seed), []
    for g in range(number):
        lengths = [min(1024, int(600 * rng.lognormvariate(-0.06, 0.35))) for _ in range(size)]
        out.append(
            [TrainSample(f"{g}/{i}", str(g), range(400), range(n)) for i, n in enumerate(lengths)]
        )
    return out


def learn(ranks: int, of_step: list[list[TrainSample]]):
    """(shares of each call, critical path over ideal) of a step in calls of a group for each
    rank.
    """
    loads, calls = [0.0] * ranks, []
    for start in range(0, len(of_step), ranks):
        call = of_step[start : start + ranks]
        shares, loads = assign(
            [s for group in call for s in group], loads, BALANCE, cut=start + ranks >= len(of_step)
        )
        calls.append(shares)
    ideal = sum(cost(group, BALANCE) for group in of_step) / ranks
    return calls, max(loads) / ideal


@pytest.mark.parametrize(
    ("ranks", "number", "size", "most"),
    [(1, 8, 8, 1.0001), (2, 8, 8, 1.05), (4, 8, 8, 1.05), (8, 8, 8, 1.2), (28, 128, 16, 1.05), (64, 128, 16, 1.05)],
)  # fmt: skip
def test_loads_are_even_and_everything_is_learnt_once(ranks, number, size, most):
    of_step = groups(number, size)
    calls, ratio = learn(ranks, of_step)
    found = sorted(s.uid for shares in calls for share in shares for s in share)
    assert found == sorted(s.uid for group in of_step for s in group)
    assert ratio <= most


def test_groups_stay_whole_until_the_last_call():
    of_step = groups(8, 8)
    shares, _ = assign([s for g in of_step for s in g], [0.0] * 4, BALANCE)
    assert all(len({s.image for s in share}) * 8 == len(share) for share in shares)


def test_fewer_groups_than_ranks_are_cut_so_that_all_have_work():
    (group,) = groups(1, 8)
    shares, loads = assign(group, [0.0] * 4, BALANCE)
    assert all(shares) and max(loads) < 0.5 * cost(group, BALANCE)


def test_a_rank_that_has_more_from_earlier_calls_gets_less():
    first, second = groups(2, 8)
    shares, _ = assign([*first, *second], [10**6, 0.0, 0.0], BALANCE)
    assert not shares[0] and shares[1] and shares[2]
