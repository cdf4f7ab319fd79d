"""Group-relative advantages: the formula, and every case in which there is nothing to compare."""

import math
import random

import pytest

from geoagent_rl.grpo.advantages import group_advantages, over_batch, part_advantages


def test_is_the_standard_score_with_ddof_1():
    # mean 2, std sqrt(((1)^2 + 0 + 1^2) / 2) = 1
    expected = [-1 / 1.0001, 0.0, 1 / 1.0001]
    assert group_advantages([1.0, 2.0, 3.0]) == pytest.approx(expected, abs=1e-12)


def test_unscorable_samples_change_nothing_for_the_others():
    with_failure = group_advantages([1.0, None, 2.0, 3.0])
    assert with_failure[1] == 0.0
    assert [with_failure[i] for i in (0, 2, 3)] == group_advantages([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "totals", [[], [None, None], [3.0], [None, 3.0, None], [2.5] * 8, [0.0, 0.0, None]]
)
def test_nothing_to_compare_is_exactly_zero(totals):
    assert group_advantages(totals) == [0.0] * len(totals)


def test_float_noise_makes_no_gradient():
    noise = random.Random(0)
    assert group_advantages([1.0 + 1e-8 * noise.random() for _ in range(8)]) == [0.0] * 8


def test_a_small_real_difference_counts():
    assert max(group_advantages([1.0, 1.001])) > 0.5


def test_sum_is_zero_and_order_is_kept():
    totals = [0.3, 1.9, 1.1, 0.2, 3.4]
    advantages = group_advantages(totals)
    assert math.isclose(sum(advantages), 0.0, abs_tol=1e-12)
    assert sorted(range(5), key=totals.__getitem__) == sorted(range(5), key=advantages.__getitem__)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        group_advantages([1.0, bad])


def test_unscaled_keeps_the_scale_of_the_reward():
    assert group_advantages([1.0, None, 3.0], scaled=False) == [-1.0, 0.0, 1.0]


def test_each_part_counts_by_its_weight_and_not_by_its_spread():
    samples = [{"wide": 0.0, "narrow": 0.01}, {"wide": 100.0, "narrow": 0.0}]
    small, large = part_advantages(samples, {"wide": 1.0, "narrow": 2.0})
    assert small > 0 > large


def test_a_part_that_failed_leaves_the_sample_where_it_was():
    samples = [{"a": 1.0, "b": None}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 2.0}, None]
    assert part_advantages(samples, {"a": 1.0, "b": 1.0})[0] == 0.0


@pytest.mark.parametrize("kind", ["batch", "gdpo"])
def test_over_the_batch_unscorable_samples_stay_at_zero(kind):
    totals = [[1.0, None, 2.0], [0.0, 4.0, None]]
    centred = [group_advantages(group, scaled=False) for group in totals]
    first, second = over_batch(kind, centred, totals)
    assert first[1] == second[2] == 0.0
    assert max(second) > max(first) > 0


@pytest.mark.parametrize("kind", ["batch", "gdpo"])
def test_a_batch_without_a_difference_has_no_advantage(kind):
    assert over_batch(kind, [[0.0, 0.0]], [[2.0, 2.0]]) == [[0.0, 0.0]]
