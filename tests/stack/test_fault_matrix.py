"""{geocoder, embedder, judge, Redis} x {down, slow, flapping, garbage, killed mid-call} on real
processes.

Each cell is a run of two steps by the real driver, scorer and services: in the first a part is in
trouble, before the second it is well again. The table in docs/rewards.md says what becomes of the
first step: "scored" (every number is the one of a run without trouble) or "unscorable" (left out,
with the reason). Nothing else may happen."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

import actors.serving
from actors.reward_worker import GeoEmbedWorker
from geoagent_rl import driver
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import Services
from geoagent_rl.types import PolicyVersion, UserError
from tests.support import reward_services
from tests.support.reward_fakes import PROMPT, completion, rollout
from tests.support.service_faults import Stack, trouble, until

pytestmark = pytest.mark.timeout(200)
N = 6  # completions of one step
PATIENT_S, HASTY_S = 60.0, 0.6  # deadlines: of what must be scored, and of what cannot be
AFFECTED = {"geocoder": {"spatial"}, "embedder": {"semantic"}, "judge": {"consistency"}}
OUTCOMES = {
    "down": "unscorable",
    "slow": "scored",
    "flapping": "scored",
    "garbage": "unscorable",
    "killed": "scored",
}
CELLS = [(part, fault, outcome) for part in AFFECTED for fault, outcome in OUTCOMES.items()]
CELLS += [("redis", fault, "scored") for fault in OUTCOMES]


@pytest.fixture(scope="module")
def stack(ray_local, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actors.serving, "GeoEmbedWorker", reward_services.TroubledWorker)
        stack = Stack(tmp_path_factory.mktemp("faults"), N)
    yield stack
    stack.stop()


def texts(cell):
    """Completions whose names nobody has asked about before, so that no cache hides the trouble."""
    names = [
        ("Germany", "Bavaria", f"Weiler{'abcdefghijklmnopqrstu'[cell]}{10 * i}") for i in range(N)
    ]
    return [completion(levels, levels) for levels in names]


@pytest.fixture(scope="module")
def clean(stack):
    """What the completions of each cell earn without cache, Ray or trouble: lists of
    ScoredRollout.
    """

    async def score_all():
        worker = GeoEmbedWorker(stack.config.reward, "off")
        scorer = Scorer(
            Services(worker, worker, reward_services.StandInAgent()), stack.config.reward
        )
        try:
            cells = range(len(CELLS) + 1)
            return await asyncio.gather(
                *(scorer.score(PROMPT, rollout(t)) for cell in cells for t in texts(cell))
            )
        finally:
            await worker.remotes["photon"].close()

    found = stack.do(score_all())
    assert len({s.total for s in found}) >= N and not [s for s in found if s.total is None]
    assert all(s.parts["semantic"].details["levels"][2]["by"] == "encoder" for s in found)
    return [found[i : i + N] for i in range(0, len(found), N)]


class Engine:
    up, under_way = True, 0

    def __init__(self, texts):
        self.texts = texts

    def failed(self, problem):
        pass

    async def generate(self, prompt, sampling):
        for i in range(sampling.n):
            yield dataclasses.replace(
                rollout(self.texts[i], i), spans={"submitted": 0.0, "generated": 0.0}
            )

    async def swap(self, version):
        return 0.0


class Learner:
    async def accumulate(self, group):
        pass

    async def step(self):
        return PolicyVersion(1, "checkpoint", "nowhere"), {}


async def run(stack, texts, deadline_s, mend, **reward):
    """The groups of two steps with the same completions; the trouble is mended between them."""
    reward = dataclasses.replace(stack.config.reward, deadline_s=deadline_s, **reward)
    scorer, groups = Scorer(stack.services.services, reward), []

    async def on_step(step, metrics, of_step):
        groups.extend(of_step)
        await mend()
        scorer.config = dataclasses.replace(reward, deadline_s=PATIENT_S)

    config = dataclasses.replace(stack.config, reward=reward)
    await driver.train(config, lambda i: PROMPT, [Engine(texts)], scorer, Learner(), on_step)
    return groups


def unchanged(scored, clean):
    """Every part of every sample is what it is without trouble, or an infra failure."""
    assert [s.rollout.index for s in scored] == list(range(N))  # none lost, none twice
    for got, expected in zip(scored, clean, strict=True):
        for name, outcome in got.parts.items():
            same = (outcome.kind, outcome.score) == (
                expected.parts[name].kind,
                expected.parts[name].score,
            )
            assert outcome.kind == "infra" or same, (name, outcome)
        failed = [name for name, outcome in got.parts.items() if outcome.kind == "infra"]
        assert got.total == (None if failed else expected.total)
    return True


@pytest.mark.parametrize(
    ("part", "fault", "outcome"), CELLS, ids=[f"{part}-{fault}" for part, fault, _ in CELLS]
)
def test_a_part_in_trouble_changes_no_number_and_the_run_goes_on(
    stack, clean, part, fault, outcome
):
    cell = CELLS.index((part, fault, outcome))

    async def work():
        before = await stack.counters()
        async with trouble(stack, part, fault) as mend:
            deadline_s = PATIENT_S if outcome == "scored" else HASTY_S
            during, after = await run(stack, texts(cell), deadline_s, mend)
        assert unchanged(during.samples, clean[cell]) and unchanged(after.samples, clean[cell])
        assert [s.total for s in after.samples] == [s.total for s in clean[cell]]
        if outcome == "scored":
            assert [s.total for s in during.samples] == [s.total for s in clean[cell]]
        else:
            assert [s.total for s in during.samples] == [None] * N and set(during.advantages) == {
                0.0
            }
            for sample in during.samples:
                failed = {
                    name for name, o in sample.parts.items() if o.kind == "infra" and o.reason
                }
                assert AFFECTED[part] <= failed
        if part == "redis":
            await redis_was_missed_and_is_back(stack, fault, before)

    stack.do(work())


async def redis_was_missed_and_is_back(stack, fault, before):
    """Trouble with Redis is counted, and ends by itself: what is asked twice is found again."""
    geo, now = stack.services.services.geocoder, await stack.counters()
    if fault in ("down", "slow", "flapping"):
        assert now.get("errors", 0) + now.get("skipped", 0) > before.get("errors", 0) + before.get(
            "skipped", 0
        )

    async def found_again():
        hits = (await stack.counters()).get("geocode_hits", 0)
        await geo.geocode([("Germany", "Bavaria", f"Weilerredis{len(fault)}")])
        return (await stack.counters()).get("geocode_hits", 0) > hits

    await until(found_again)


def test_a_run_with_too_many_unscorable_samples_stops_and_says_why(stack, clean):
    async def work():
        async with trouble(stack, "geocoder", "down") as mend:
            await run(stack, texts(len(CELLS)), HASTY_S, mend, max_unscorable_share=0.2)

    with pytest.raises(UserError, match="100% .* could not be scored .*spatial: geocoder photon"):
        stack.do(work())
