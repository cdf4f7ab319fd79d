"""Real DeepSpeed over gloo: neither ranks, ZeRO stage, split, order nor streaming change a step;
lost ranks end it.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from shutil import SameFileError

import psutil
import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from torch import OutOfMemoryError

from actors.learner_group import LearnerGroup, groups_together
from geoagent_rl.grpo.schedule import grpo_phase
from geoagent_rl.types import InfraError
from tests.support import learner_ranks, tiny_random
from tests.support.learner_cases import config, group
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tiny")
    model = tiny_random.build(directory)
    return model, [tiny_random.picture(directory / f"{i}.png", i, (84, 56)) for i in range(3)]


@pytest.fixture(scope="module")
def outcomes(place, tmp_path_factory):
    """{(ranks, rank): {case: {"rows", "probe"}}} of tests/support/learner_ranks.py."""
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.support.learner_ranks", place[0], str(out), *place[1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        tuple(map(int, p.stem.split("-"))): json.loads(p.read_text()) for p in out.glob("*.json")
    }


@pytest.mark.parametrize("case", learner_ranks.CASES)
@pytest.mark.parametrize("world", learner_ranks.WORLDS)
def test_ranks_stages_splits_and_orders_give_the_same_steps(outcomes, world, case):
    expected = outcomes[1, 0]["zero0"]
    assert len(expected["rows"]) == learner_ranks.STEPS and expected["rows"][1]["kl"] > 0
    for rank in range(world):
        found = outcomes[world, rank][case]
        for ours, theirs in zip(found["rows"], expected["rows"], strict=True):
            assert ours["step_skipped"] == 0 and ours["train_tokens"] == theirs["train_tokens"]
            for name in ("loss", "kl", "entropy", "grad_norm", "sampler_gap"):
                assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5), name
        assert found["probe"] == pytest.approx(expected["probe"], abs=1e-4)


async def test_a_rank_that_dies_in_a_step_ends_it_at_once_and_is_named(place, ray_local, tmp_path):
    c = config(ranks=2, cpus_per_rank=0.5)
    ranks = await LearnerGroup.start(c, place[0], grpo_phase(c), True, "dying-learner")
    pid = await asyncio.wrap_future(
        ranks.actors[1].__ray_call__.remote(lambda _: os.getpid()).future()
    )
    try:
        for i in range(2):  # a group for each rank: one call
            await ranks.accumulate(group(place, i, 0))
        stopped = psutil.Process(pid)
        stopped.suspend()  # so that rank 0 is inside the step's collective call when rank 1 dies
        step = asyncio.create_task(ranks.step())
        await asyncio.sleep(1.0)
        assert not step.done()
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InfraError, match="learner rank 1 died in 'step'"):
            await step
        assert time.monotonic() - began < 30
        with pytest.raises(InfraError, match="learner rank 1 died"):
            await ranks.save(str(tmp_path / "checkpoint"))
        assert not Path(tmp_path / "checkpoint").exists()
    finally:
        await ranks.stop()


class Answer:
    """A Ray reference as far as LearnerGroup looks at it."""

    def __init__(self, outcome=None) -> None:
        self.outcome = outcome

    def future(self) -> Future:
        future = Future()
        if isinstance(self.outcome, Exception):
            future.set_exception(self.outcome)
        elif self.outcome is not None:
            future.set_result(self.outcome)
        return future


def failed(cause: Exception) -> RayTaskError:
    return RayTaskError("call", "traceback", cause)


GLOO = RuntimeError(
    "[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1000ms for recv operation to complete"
)


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ((7, None), "learner rank 1 did not finish 'step' in 0.2 s"),
        (
            (failed(GLOO), None),
            "learner rank 0 lost the others in 'step', and rank 1 does not answer: .*Timed out",
        ),
        ((failed(GLOO), failed(GLOO)), "learner rank 0 lost the others in 'step': .*Timed out"),
        ((failed(GLOO), ActorDiedError()), "learner rank 1 died in 'step'"),
        ((failed(InfraError("rank 0: no sample")), None), "rank 0: no sample"),
        (
            (failed(GLOO), failed(OutOfMemoryError("CUDA out of memory"))),
            "learner rank 1 failed in 'step': OutOfMem",
        ),
        (
            (failed(OSError(28, "No space left on device")), 7),
            "learner rank 0 failed in 'step': OSError: .*No space",
        ),
    ],
)
async def test_whom_a_wait_was_for(outcomes, message, monkeypatch):
    monkeypatch.setattr("actors.learner_group.NOTICE_S", 0.2)
    with pytest.raises(InfraError, match=message):
        await LearnerGroup([], timeout_s=0.2).answers(
            "step", [Answer(outcome) for outcome in outcomes]
        )


@pytest.mark.parametrize(
    "error", [SameFileError("one"), FileNotFoundError(2, "none"), PermissionError(13, "no")]
)
async def test_an_error_that_would_only_be_met_again_is_no_lost_machine(error):
    with pytest.raises(type(error)):
        await LearnerGroup([], timeout_s=5).answers("save_merged", [Answer(failed(error))])


@pytest.mark.parametrize(
    ("ranks", "colocate", "loss", "calls"),
    [
        (1, False, "grpo", [1, 1, 1, 1, 1]),
        (2, False, "grpo", [2, 2, 1]),
        (3, False, "dapo", [3, 2]),
        (64, False, "grpo", [5]),
        (1, True, "grpo", [5]),
        (2, False, "bnpo", [1] * 5),
    ],
)
async def test_groups_go_out_so_many_at_a_time_that_every_rank_has_work(
    place, ranks, colocate, loss, calls, monkeypatch
):
    """The number follows from the configuration alone, so a resumed run repeats it."""
    c = config(ranks=ranks, loss=loss)
    c.rollout.prompts_per_step, c.placement.colocate = 5, colocate
    learner, seen = LearnerGroup([], 1.0, groups_together(c)), []

    def submit(method, *stored):
        seen.append((method, stored))
        return []

    async def in_turn(method, refs):
        return None

    monkeypatch.setattr(learner, "submit", submit)
    monkeypatch.setattr(learner, "in_turn", in_turn)
    monkeypatch.setattr("actors.learner_group.ray.put", lambda groups: groups)
    of_step = [group(place, i % 3, version=i) for i in range(5)]
    for one in of_step:
        await learner.accumulate(one)
    await learner.step()
    assert seen.pop()[0] == "step" and [len(groups) for _, (groups,) in seen] == calls
    sent = [g for _, (groups,) in seen for g in groups]
    assert [int(g.versions[0]) for g in sent] == [0, 1, 2, 3, 4]
    assert sent[0].completion_ids.nbytes == 4 * sum(
        len(s.rollout.completion_ids) for s in of_step[0].samples
    )


async def test_calls_are_submitted_at_once_and_each_limit_begins_when_the_one_before_has_ended():
    """So ranks never wait for one another, and a long queue is no timeout."""

    class Rank:
        def __init__(self):
            self.answers = []
            self.call = self

        def remote(self, method, *args):
            self.answers.append(Answer())
            self.answers[-1].open = Future()
            self.answers[-1].future = lambda a=self.answers[-1]: a.open
            return self.answers[-1]

    rank = Rank()
    learner = LearnerGroup([rank], timeout_s=0.3)
    calls = [asyncio.create_task(learner.everywhere("accumulate_groups", i)) for i in range(3)]
    for done in range(3):
        await asyncio.sleep(0.2)
        assert len(rank.answers) == 3 and not calls[done].done()
        rank.answers[done].open.set_result(done)
    assert await asyncio.gather(*calls) == [0, 1, 2]
