"""Whatever fails, and however often: no infrastructure failure ever changes a number, and nothing
is lost.
"""

from __future__ import annotations

import asyncio
import random
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.types import InfraError
from tests.support.reward_fakes import PROMPT, Fakes, completion, rollout

TEXTS = [
    completion(),
    completion(levels=("Germany", "unknown", "")),
    completion(levels=("France", "Bavaria", "Munich"), conclusions=("France", "unknown", "Munich")),
    completion(conclusions=("Germany", "Bayern", "Hamburg"), characters=140),
    "I cannot tell.",
    completion()[:-4],
]


def score_all(before, **config):
    async def run():
        scorer = Scorer(Fakes(before).services, RewardConfig(**config))
        return await asyncio.gather(
            *(scorer.score(PROMPT, rollout(t, i)) for i, t in enumerate(TEXTS))
        )

    return asyncio.run(run())


CLEAN = score_all(None)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    share=st.floats(0, 1),
    required=st.sets(st.sampled_from(["spatial", "semantic"])),
)
def test_random_faults_never_change_a_number(seed, share, required):
    rng = random.Random(seed)

    async def hang():
        await asyncio.Event().wait()

    def before(kind):
        if rng.random() < share:
            fault = rng.randrange(4)
            if fault == 0:
                return hang()
            if fault == 1:
                return []
            raise (InfraError if fault == 2 else ConnectionResetError)(kind)

    always = {*required, "consistency", "format"}
    with patch("geoagent_rl.rewards.scorer.FIRST_BACKOFF_S", 0.0005):
        found = score_all(before, deadline_s=0.02, attempt_timeout_s=0.004, required=tuple(always))

    assert [f.rollout.index for f in found] == list(
        range(len(TEXTS))
    )  # nothing lost, nothing twice
    for got, clean in zip(found, CLEAN, strict=True):
        for name, outcome in got.parts.items():
            assert outcome.kind == "infra" or (outcome.kind, outcome.score) == (
                clean.parts[name].kind,
                clean.parts[name].score,
            )
        failed = {n for n, o in got.parts.items() if o.kind == "infra"}
        assert (got.total is None) >= bool(failed & always)
        if not failed:
            assert got.total == clean.total


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.floats(0, 0.7))
def test_with_time_to_retry_every_sample_is_scored_exactly(seed, share):
    rng = random.Random(seed)

    def before(kind):
        if rng.random() < share:
            raise InfraError(kind)

    scorer = "geoagent_rl.rewards.scorer"
    with patch(f"{scorer}.FIRST_BACKOFF_S", 1e-6), patch(f"{scorer}.LAST_BACKOFF_S", 1e-5):
        found = score_all(before, deadline_s=30.0)
    assert [f.total for f in found] == [c.total for c in CLEAN]
