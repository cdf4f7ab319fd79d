"""Which groups a step takes, and how many may be under way, in numbers worked out by hand."""

import pytest

from geoagent_rl.config import RolloutConfig
from geoagent_rl.grpo.sampling import still_wanted, trains
from geoagent_rl.grpo.staleness import groups_under_way
from geoagent_rl.types import Group, Prompt, Truth

PROMPT = Prompt("u", "a", Truth("", "", "", 0.0, 0.0))
GOOD, DULL, EMPTY = (Group(PROMPT, (), advantages) for advantages in ((0.5, -0.5), (0.0, 0.0), ()))


def test_without_dynamic_sampling_every_group_counts():
    config = RolloutConfig(prompts_per_step=3)
    assert all(trains(g, config) for g in (GOOD, DULL, EMPTY))
    assert [still_wanted([DULL] * n, config) for n in range(4)] == [3, 2, 1, 0]


def test_with_dynamic_sampling_groups_without_advantage_do_not():
    config = RolloutConfig(prompts_per_step=3, dynamic_sampling=True, max_refills=2)
    assert trains(GOOD, config) and not trains(DULL, config) and not trains(EMPTY, config)
    assert [still_wanted([GOOD] * n, config) for n in range(4)] == [3, 2, 1, 0]
    assert [still_wanted([DULL] * n, config) for n in range(6)] == [
        3,
        3,
        3,
        2,
        1,
        0,
    ]  # 3 + 2 at most
    assert still_wanted([GOOD, DULL, GOOD, DULL], config) == 1


@pytest.mark.parametrize(
    ("wanted", "staleness", "left", "allowed"),
    [
        (4, 0, 9, 4),
        (1, 0, 9, 1),
        (4, 1, 9, 8),
        (4, 2, 9, 12),
        (4, 2, 1, 8),
        (4, 2, 0, 4),
        (2, 1, 9, 6),
    ],
)
def test_capacity(wanted, staleness, left, allowed):
    assert groups_under_way(wanted, staleness, prompts_per_step=4, steps_left=left) == allowed
