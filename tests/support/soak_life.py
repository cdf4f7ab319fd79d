"""One life of the soak's stand-in run: the real job, run directory, driver and recovery; engine,
learner and rewards are a few lines each.

Weights are a text that every step makes from the one before and from what was learnt, and every
completion is made from the weights: a sample that is lost, repeated or of other weights changes
all that follows. Imports what the real job imports: lives are forked from a process that has."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hashlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cluster.jobs.grpo as grpo
import cluster.jobs.train as job
from cluster.launch import Session
from geoagent_rl.config import Config, load
from geoagent_rl.files import directory_at_once
from geoagent_rl.recovery import LearnerLost, RestartedEngine
from geoagent_rl.run import checkpoints
from geoagent_rl.run.start import holds_a_run
from geoagent_rl.types import Group, InfraError, PolicyVersion
from tests.support import power_cut
from tests.support.driver_fakes import FakeEngine, FakeScorer
from tests.support.soak_stand_in import (
    CLOCK_JUMPS,
    DISK_FILLS,
    ENGINE_DIES,
    GROUP,
    LEARNER_DIES,
    PROMPTS,
    STEPS,
)

SECONDS = 0.01  # for a completion
FULL_S = 0.3
dying: set[str] = set()  # what has been told to die and has not yet


def sum_of(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


class Engine(FakeEngine):
    """Completions depend on the weights, which are the version's path."""

    weights = "start"

    def live(self) -> None:
        if "engine" in dying:
            dying.discard("engine")
            self.dead = True
        if self.dead:
            raise InfraError("the engine is gone")

    async def generate(self, prompt: Any, sampling: Any) -> AsyncIterator[Any]:
        """As FakeEngine, with texts of these weights."""
        async for rollout in super().generate(prompt, sampling):
            self.live()
            object.__setattr__(rollout, "text", sum_of(self.weights, prompt.uid, rollout.text))
            yield rollout

    async def swap(self, version: PolicyVersion) -> float:
        """Take the weights."""
        self.live()
        self.weights = version.path
        return await super().swap(version)

    async def check(self) -> None:
        """Raise InfraError when dead."""
        self.live()

    async def end(self) -> None:
        """Nothing to end."""


class Learner:
    """LearnerGroup's calls."""

    def __init__(self) -> None:
        self.weights, self.learnt, self.writer = "start", "", checkpoints.BackgroundWriter()
        self.version = PolicyVersion(0, "checkpoint", self.weights)

    @property
    def number(self) -> int:
        """How many steps it has done."""
        return self.version.number

    def live(self) -> None:
        if "learner" in dying:
            dying.discard("learner")
            raise LearnerLost("rank 0 died")

    async def accumulate(self, group: Group) -> None:
        """Take a group into the step."""
        self.live()
        self.learnt = sum_of(self.learnt, [s.rollout.text for s in group.samples], group.advantages)

    async def step(self) -> tuple[PolicyVersion, dict[str, float]]:
        """Make new weights."""
        self.live()
        self.weights, self.learnt = sum_of(self.weights, self.learnt), ""
        self.version = PolicyVersion(self.number + 1, "checkpoint", self.weights)
        return self.version, {"loss": int(self.weights[:8], 16) / 2**32}

    async def save(self, directory: str, notes: Mapping[str, Any], step: int) -> list[str]:
        """Write beside the next step, as the real one does."""
        self.live()
        if step != self.number:
            raise InfraError(f"the learner is at step {self.number}, not {step}")
        weights = self.weights

        def write(out: Path) -> None:
            (out / "adapter").mkdir()
            (out / "adapter" / "weights").write_text(weights)
            (out / "optimizer").write_text(weights * 1000)

        self.writer.begin(Path(directory), write, notes)
        return self.writer.take_problems()

    async def save_problems(self, wait: bool = False) -> list[str]:
        """See Learner.save_problems."""
        if wait:
            await asyncio.to_thread(self.writer.wait)
        return self.writer.take_problems()

    async def load(self, directory: str) -> PolicyVersion:
        """Go on from a checkpoint."""
        self.weights = (Path(directory) / "adapter" / "weights").read_text()
        step = checkpoints.step_of(Path(directory))
        self.version = PolicyVersion(step, "checkpoint", self.weights)
        return self.version

    async def save_merged(self, out: str) -> None:
        """Write the policy."""
        with directory_at_once(Path(out)) as part:
            (part / "model.safetensors").write_text(self.weights)
            (part / "config.json").write_text("{}")


class Scorer(FakeScorer):
    """Knows a position for every completion, as evaluations need."""

    async def score(self, prompt: Any, rollout: Any) -> Any:
        """As FakeScorer."""
        scored = await super().score(prompt, rollout)
        details = {"lat": 10 * (scored.total or 0), "lon": 0.0, "level": "place"}
        parts = {k: dataclasses.replace(v, details=details) for k, v in scored.parts.items()}
        return dataclasses.replace(scored, parts=parts)


class Services:
    """No cache."""

    async def cache_metrics(self) -> dict[str, float]:
        """Nothing."""
        return {}


class NoTracking:
    """Forgets."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def write(self, *_: object) -> None:
        """Nowhere."""

    def close(self) -> None:
        """Nothing."""


@contextlib.asynccontextmanager
async def session(config: Config, run_dir: Path) -> AsyncIterator[Session]:
    yield Session(config, "soak", run_dir, None)


@contextlib.asynccontextmanager
async def running_stack(s: Session, model_dir: str) -> AsyncIterator[Any]:
    async def start(life: int) -> Engine:
        await asyncio.sleep(0.02)
        return Engine(SECONDS)

    engine = RestartedEngine("rollout engine 0", Engine(SECONDS), start, 1000)
    scorer, services = Scorer(), Services()
    try:
        yield SimpleNamespace(
            model_dir=model_dir,
            engines=[engine],
            scorer=scorer,
            evaluation_scorer=scorer,
            services=services,
        )
    finally:
        await engine.close()


@contextlib.asynccontextmanager
async def learner(*_: object) -> AsyncIterator[Learner]:
    group = Learner()
    try:
        yield group
    finally:
        await asyncio.to_thread(group.writer.wait)


@contextlib.asynccontextmanager
async def watched(_: str) -> AsyncIterator[dict[str, float]]:
    yield {}


async def no_policy(s: Session, run: object, base: str) -> str:
    return base


def jump() -> None:
    """The wall clock goes a day back or an hour on."""
    real, by = time.time, (-86400.0, 3600.0)[int(time.time()) % 2]
    time.time = lambda: real() + by


def fill() -> None:
    """The disk takes no line and no sync for a while."""
    real_open, real_sync, until = Path.open, os.fsync, time.monotonic() + FULL_S

    def check() -> None:
        if time.monotonic() < until:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if set(mode) & set("aw"):
            check()
        return real_open(path, mode, *args, **options)

    def synced(handle: int) -> None:
        check()
        real_sync(handle)

    Path.open, os.fsync = opened, synced


def live(folder: str, photos: str, log: str, shadow: str, words: list[str]) -> None:
    """A whole life, in a process of its own: starts the run in `folder` or goes on with it."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    signal.signal(ENGINE_DIES, lambda *_: dying.add("engine"))
    signal.signal(LEARNER_DIES, lambda *_: dying.add("learner"))
    signal.signal(DISK_FILLS, lambda *_: fill())
    signal.signal(CLOCK_JUMPS, lambda *_: jump())
    power_cut.watch(Path(folder), Path(shadow))
    job.session, job.running_stack, job.starting_policy = session, running_stack, no_policy
    job.write_report = lambda run: run / "report.html"
    grpo.learner, grpo.watched, grpo.Tracking = learner, watched, NoTracking
    settings = [
        f"data.manifest={photos}",
        f"run.dir={folder}",
        f"policy.model={Path(photos).parent / 'model'}",
        f"steps={STEPS}",
        f"rollout.prompts_per_step={PROMPTS}",
        f"rollout.group_size={GROUP}",
        "learner.max_restarts=1000",
        *words,
    ]
    try:
        job.run_train_job(load(None, settings), holds_a_run(Path(folder)))
    except Exception as error:  # noqa: BLE001 (as errors_in_one_line: the soak reads the log)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
