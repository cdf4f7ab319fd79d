"""Completions at the token limit: who leaves the loss, and the soft penalty in numbers worked out
by hand.
"""

import pytest

from geoagent_rl.config import Config
from geoagent_rl.credit import comparable_totals
from geoagent_rl.grpo.advantages import group_advantages
from geoagent_rl.grpo.overlong import counted, penalised, soft_penalty
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.types import Rollout, ScoredRollout


def test_only_cut_off_completions_leave_the_loss_and_only_with_mask():
    whole = TrainSample("a", "a", (1,), (2,) * 9)
    cut = TrainSample("b", "a", (1,), (2,) * 3, truncated=True)
    assert counted([whole, cut], "mask") == [whole]
    assert counted([whole, cut], "keep") == counted([whole, cut], "penalty") == [whole, cut]


@pytest.mark.parametrize(
    ("tokens", "penalty"), [(0, 0), (80, 0), (85, -0.25), (90, -0.5), (100, -1), (120, -1)]
)
def test_the_penalty_grows_over_the_last_fifth(tokens, penalty):
    assert soft_penalty(tokens, 100, 0.2) == pytest.approx(penalty)


def test_the_penalty_is_in_units_of_reward_and_unscorable_stays_unscorable():
    assert penalised([3.0, None, 2.0], [90, 100, 10], 100, 0.2, most=0.5) == [2.75, None, 2.0]


def scored(total, n):
    return ScoredRollout(Rollout("u", 0, (1,), (2,) * n, (), "", "stop", 0), {}, total)


def test_the_penalty_changes_advantages_and_not_the_recorded_totals():
    config = Config()
    config.rollout.max_tokens, config.learner.overlong = 100, "penalty"
    group = [scored(1.0, 10), scored(1.0, 100), scored(None, 100)]
    totals = comparable_totals(config, group)
    assert totals == [1.0, 0.0, None] and group[1].total == 1.0
    short, long, unscorable = group_advantages(totals)
    assert short > 0 > long and unscorable == 0
    config.learner.overlong = "mask"
    assert comparable_totals(config, group) == [1.0, 1.0, None]
