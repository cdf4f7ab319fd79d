"""Where a run's time goes: what the steps count adds up to the run's."""

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoagent_rl import config as configuration
from geoagent_rl import driver
from geoagent_rl.metrics.spans import length, union
from tests.support import virtual_time
from tests.support.driver_fakes import FakeEngine, FakeLearner, FakeScorer, prompt_at

SMALL = ["data.manifest=x", "rollout.prompts_per_step=4", "rollout.group_size=4", "steps=5"]


@hypothesis.settings(max_examples=10, deadline=None)
@given(
    staleness=st.integers(0, 3),
    seconds=st.tuples(*[st.floats(0.01, 5)] * 3),
    fails=st.frozensets(st.sampled_from([f"p{i}" for i in range(20)])),
)
def test_the_busy_times_of_all_steps_are_those_of_the_run(staleness, seconds, fails):
    """Work done ahead is counted in the step that it is done in, once; no step exceeds itself."""
    rows, spans = [], []
    generate_s, score_s, learn_s = seconds

    async def on_step(step, metrics, groups):
        rows.append(metrics)
        spans.extend(s.rollout.spans for g in groups for s in g.samples)

    config = configuration.load(None, [*SMALL, f"max_staleness={staleness}"])
    parts = [FakeEngine(generate_s, fails)], FakeScorer(score_s), FakeLearner(learn_s)
    virtual_time.run(driver.train(config, prompt_at, *parts, on_step))

    whole = sum(row["step_seconds"] for row in rows)
    for name, begun, ended in [
        ("rollout", "submitted", "generated"),
        ("reward", "generated", "scored"),
    ]:
        busy = length(union(((s[begun], s[ended]) for s in spans), (0.0, whole)))
        found = sum(row[f"{name}_busy_seconds"] for row in rows)
        # What an engine had begun of a group before it failed counts only while it is under way.
        assert found == pytest.approx(busy) if not (fails and staleness) else found >= 0.999 * busy
    for row in rows:
        assert row["bound_seconds"] <= row["step_seconds"] * (1 + 1e-9)
