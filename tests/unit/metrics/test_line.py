"""The live line of a step says what comes."""

import pytest

from geoagent_rl.metrics.line import duration, summary_line

ROW = {
    "reward_total_mean": 1.5, "reward_spatial_mean": 0.5, "tokens_per_s": 900.0, "step_seconds": 30.0,
    "rollout_wait_seconds": 12.0, "reward_exposed_seconds": 0.1, "swap_seconds": 1.0,
}  # fmt: skip


def test_the_line_names_the_longest_wait_and_the_time_left():
    said = summary_line(10, 40, ROW)
    assert said.startswith("step 10/40  reward 1.500")
    assert said.endswith("waited 12.0 s for rollout  15 min left")
    assert summary_line(40, 40, ROW).endswith("  0 s left")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119, "119 s"), (7140, "119 min"), (9000, "2.5 h")]
)
def test_a_duration_has_the_unit_that_suits_it(seconds, said):
    assert duration(seconds) == said
