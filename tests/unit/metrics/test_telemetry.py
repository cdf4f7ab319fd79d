import pytest

from geoagent_rl.config.reward import ScheduleConfig
from geoagent_rl.config.schedule import measured
from geoagent_rl.metrics.batch import sample_metrics, staleness_metrics
from geoagent_rl.metrics.spans import (
    StepClock,
    gaps,
    most_at_once,
    overlap,
    time_metrics,
    union,
)
from geoagent_rl.metrics.table import describe, is_metric, metrics, parts_measured
from geoagent_rl.types import Group, Outcome, Prompt, Rollout, ScoredRollout, Truth


def group(*samples, advantages=None):
    """samples: (generated, scored, total)"""
    scored = tuple(
        ScoredRollout(
            Rollout(
                "p",
                i,
                (1,),
                (1, 2),
                (0.0, 0.0),
                "",
                "stop",
                0,
                {"submitted": 0.0, "generated": g, "scored": s},
            ),
            {
                "spatial": Outcome("infra", None, "x")
                if total is None
                else Outcome("score", total, "", {"seconds": s - g})
            },
            total,
        )
        for i, (g, s, total) in enumerate(samples)
    )
    return Group(
        Prompt("p", "/p", Truth("", "", "", 0, 0)), scored, tuple(advantages or [0.0] * len(scored))
    )


def test_interval_arithmetic():
    assert union([(3, 5), (0, 2), (1, 2.5), (9, 12)], (0.5, 10)) == [(0.5, 2.5), (3, 5), (9, 10)]
    assert gaps([(1, 2), (4, 5)], (0, 5)) == [(0, 1), (2, 4)]
    assert overlap([(0, 2), (4, 6)], [(1, 5)]) == 2


def test_reward_exposed_is_idle_time_with_a_generated_and_unscored_group():
    # One group: last sample generated at 4, last scored at 7; the learner works 7-9, swap 9-10.
    clock = StepClock(0.0, 10.0, learning=[(7.0, 9.0)], swapping=[(9.0, 10.0)])
    row = time_metrics(clock, [group((3.0, 3.5, 1.0), (4.0, 7.0, 0.0))])
    assert row["reward_exposed_seconds"] == 3.0
    assert row["rollout_wait_seconds"] == 4.0
    assert row["learn_busy_seconds"] == 2.0 and row["swap_seconds"] == 1.0
    assert row["bound_seconds"] == 4.0 and row["efficiency"] == 0.4
    clock.shared = True  # the same GPUs cannot generate and learn at once
    assert time_metrics(clock, [group((4.0, 7.0, 0.0))])["bound_seconds"] == 6.0


def test_scoring_behind_a_busy_learner_is_not_exposed():
    clock = StepClock(0.0, 8.0, learning=[(2.0, 8.0)])
    row = time_metrics(clock, [group((1.0, 2.0, 1.0)), group((2.0, 6.0, 1.0))])
    assert row["reward_exposed_seconds"] == 1.0  # only the first group's second


def test_rewards_that_nobody_waits_for_are_not_exposed():
    # The second group is scored from 1 to 3, while the learner waits for the first, generated at 5
    # and scored at 6.
    clock = StepClock(0.0, 8.0, learning=[(6.0, 8.0)])
    row = time_metrics(clock, [group((5.0, 6.0, 1.0)), group((1.0, 3.0, 1.0))])
    assert row["reward_exposed_seconds"] == 1.0 and row["rollout_wait_seconds"] == 5.0


def test_unscorable_samples_are_counted_apart_from_the_means():
    row = sample_metrics(
        [group((1, 2, 1.0), (1, 2, None), (1, 2, 3.0), (1, 2, None), advantages=[-0.7, 0, 0.7, 0])]
    )
    assert row["reward_total_mean"] == 2.0 and row["unscorable_share"] == 0.5
    assert row["reward_spatial_mean"] == 2.0
    assert row["reward_total_std"] == pytest.approx(2**0.5)


def test_every_metric_is_named_in_the_table():
    row = sample_metrics([group((1, 2, 1.0))]) | time_metrics(
        StepClock(0.0, 3.0), [group((1, 2, 1.0))]
    )
    assert set(row) <= set(metrics(["spatial"]))
    assert parts_measured(row) == ["spatial"]  # no other metric looks like a part of the reward


def test_a_part_of_the_user_s_own_is_described_like_a_built_in_one():
    for name in metrics(["near_miss"]):
        assert is_metric(name) and describe(name) == metrics(["near_miss"])[name]
    assert describe("reward_near_miss_mean") == (
        "score",
        "mean near_miss score over samples in which it is known, before weighting",
    )
    names = ["reward_total_mean", "reward_near_miss_mean", "reward_busy_seconds", "reward_x_std"]
    assert parts_measured(names) == ["near_miss"]
    assert not is_metric("rewards") and not is_metric("reward_{part}_average")


def test_scheduled_numbers_are_metrics_of_the_batchs_version():
    tau = ScheduleConfig("spatial.tau_km", "linear", 1000.0, 200.0, 9)
    row = measured([tau, ScheduleConfig("custom.near.weight", "linear", 0.0, 1.0, 9)], 4)
    assert row == {"scheduled_spatial_tau_km": 600.0, "scheduled_custom_near_weight": 0.5}
    assert all(map(is_metric, row)) and parts_measured(row) == []
    assert "reward.spatial_tau_km" in describe("scheduled_spatial_tau_km")[1]


def test_quantiles_deviations_and_shares_are_over_the_samples_that_have_them():
    row = sample_metrics(
        [
            group(
                *((0.0, float(i), i / 10) for i in range(11)),
                (0.0, 99.0, None),
                advantages=[1, -1] * 6,
            )
        ]
    )
    assert [row[f"reward_spatial_q{q}"] for q in (10, 50, 90)] == pytest.approx([0.1, 0.5, 0.9])
    assert row["reward_spatial_std"] == row["reward_total_std"] == pytest.approx(0.11**0.5)
    assert (
        row["unscorable_share_spatial"] == pytest.approx(1 / 12)
        and "unscorable_share_semantic" not in row
    )
    assert (
        row["latency_spatial_q50"] == 5.0
        and row["latency_scoring_q95"] > row["latency_spatial_q95"] == 9.5
    )
    assert row["advantage_std"] == pytest.approx((12 / 11) ** 0.5)
    assert row["completion_tokens_max"] == row["completion_tokens_q90"] == 2


def test_queues_are_counted_inside_the_step():
    # Two samples: generated in 0-1 and 0-2, scored in 1-5 and 2-5; the step lasts from 1 to 5.
    row = time_metrics(StepClock(1.0, 5.0), [group((1.0, 5.0, 1.0), (2.0, 5.0, 0.0))])
    assert (
        row["rollout_queue_mean"] == 0.25
        and row["scoring_queue_mean"] == 7 / 4
        and row["scoring_queue_max"] == 2
    )
    assert most_at_once([]) == 0 and most_at_once([(0, 1), (1, 2)]) == 1


def test_staleness_is_counted_in_versions():
    stale = staleness_metrics([group((1, 2, 1.0), (1, 2, 0.0))], trained=2)  # both by version 0
    assert stale == {"staleness_mean": 2.0, "staleness_max": 2}
