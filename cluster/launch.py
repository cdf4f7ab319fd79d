"""Builds a run's actors on Ray and takes them down again, whatever happens: nothing outlives the
run.

Every name carries the run's id, so two runs share a cluster without touching each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors.learner_group import LearnerGroup
from actors.remote_rollout import RemoteRollout, stored
from actors.rollout import RolloutEngine
from actors.serving import RewardServices, start_services
from cluster.janitor import janitor
from cluster.placement import Reservation, reserve
from cluster.prefetch import hub_models, prefetch
from cluster.running import noted, on_a_cluster
from geoagent_rl.config import Config
from geoagent_rl.config.reward import Weights
from geoagent_rl.grpo.schedule import Phase
from geoagent_rl.policy.sizes import known_architecture
from geoagent_rl.recovery import RestartedEngine
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.run.directory import given_id
from geoagent_rl.terminal import has_stuck_threads, phase, say
from geoagent_rl.types import InfraError, UserError

OBJECT_STORE = 256 * 2**20  # of a Ray of one's own, in bytes
VERSIONS = 3  # published ones that it has room for besides: the new, the old, and a copy under way
ENGINE_START_S = 300.0
GPU_ENGINE_START_S = 1800.0  # tens of gigabytes from a network disk or the hub, compilation, graphs


@dataclass
class Session:
    """A run's place on Ray."""

    config: Config
    run_id: str
    run_dir: Path
    place: Reservation


@dataclass
class Stack:
    """What generates and scores. Learners come and go with their phase (see `learner`)."""

    model_dir: str  # the checkpoint that the engines were started with
    engines: list[RestartedEngine]
    scorer: Scorer  # with the configured weights
    # with the paper's weights for every part, whatever an ablation trains on
    evaluation_scorer: Scorer
    services: RewardServices


def check_own_node() -> None:
    """Raise InfraError where Ray's part of this process' node is dead, so that whatever is started
    would wait for a place in vain."""
    here = ray.get_runtime_context().get_node_id()
    if not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == here):
        raise InfraError(
            "Ray on the driver's node is dead (raylet.err in Ray's logs has its last words; a full /dev/shm is one "
            "cause); continue the run with --resume"
        )


def warn_of_lonely_cache(config: Config) -> None:
    """Warn where workers on other hosts cannot reach the embedded Redis."""
    hosts = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if config.reward.cache.url == "embedded" and len(hosts) > 1:
        print(
            f"warning: reward.cache.url=embedded serves one of the cluster's {len(hosts)} hosts; reward workers on the "
            "others compute everything anew and share no rate limit: give them a Redis server with reward.cache.url",
            file=sys.stderr,
        )


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Keep the handler of SIGTERM. ray.init replaces it by one that exits on the spot: the run
    could not save any more."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def connect(config: Config) -> None:
    """Join the cluster of this job, or start Ray on this machine (its token:
    cluster/__init__.py).
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    here: dict[str, Any] = {
        "address": "local",
        # parts wait for each other: more of them than cores may run
        "num_cpus": max(4, os.cpu_count() or 1),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE + VERSIONS * version_bytes(config),
    }
    with sigterm_kept():
        try:
            ray.init(**quiet, **({} if on_a_cluster() else here))
        except Exception as error:  # failure taxonomy: Ray raises whatever its processes said
            said = " ".join(str(error).split())[:300]
            if on_a_cluster():
                raise InfraError(
                    f"the Ray cluster cannot be joined: {said}; is RAY_ADDRESS right, and the token?"
                ) from error
            raise InfraError(
                f"Ray did not start on this machine: {said}; is it busy or short of memory? "
                "`geoagent-rl doctor` looks"
            ) from error


def version_bytes(config: Config) -> int:
    """Return the bytes of one published policy version; 0 for a model of a size not known here."""
    shape = known_architecture(config.policy.architecture or config.policy.model)
    return 4 * shape.lora_parameters(config.policy.lora_rank) if shape else 0


def leave() -> None:
    """Leave the cluster, or end this machine's Ray: seconds. One that does not answer any more goes
    with this process."""
    if has_stuck_threads():
        return
    with phase("leaving the Ray cluster" if on_a_cluster() else "stopping Ray"):
        ray.shutdown()


@contextlib.asynccontextmanager
async def session(
    config: Config, run_dir: Path, only_learner: bool = False
) -> AsyncIterator[Session]:
    """Connect to Ray for one run, which holds its directory's lock, and reserve its place."""
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(leave)
        with phase("joining the Ray cluster" if on_a_cluster() else "starting Ray"):
            connect(config)
        run_id = given_id(run_dir)
        with phase("reserving CPUs and GPUs"):
            place = await reserve(config, run_id, only_learner)
        cleanup.callback(place.release)
        warn_of_lonely_cache(config)
        await prefetch(hub_models(config, only_learner))
        if on_a_cluster():
            cleanup.enter_context(janitor(run_id))
        else:
            cleanup.enter_context(noted(run_id, run_dir, ray.get_runtime_context().gcs_address))
        yield Session(config, run_id, run_dir, place)


@contextlib.asynccontextmanager
async def running_stack(s: Session, model_dir: str) -> AsyncIterator[Stack]:
    """Start reward services, and rollout engines with the checkpoint in `model_dir`; stop them at
    the end. Raises InfraError naming the part that did not come up.
    """
    config = s.config
    async with contextlib.AsyncExitStack() as cleanup:
        engines, starting = await cleanup.enter_async_context(starting_engines(s, model_dir))
        if 0 < config.rollout.gpus_per_engine < 1:
            # vLLM measures the GPU's memory as it starts: one engine after the other
            with phase(f"waiting for {len(engines)} rollout engines"):
                await asyncio.shield(starting)
        with phase("starting geocoder, encoder and judge"):
            services = await start_services(config, s.run_id, s.run_dir / "cache")
            cleanup.push_async_callback(stop_services, services)
        with phase(f"waiting for {len(engines)} rollout engines"):
            await starting
        everything = dataclasses.replace(config.reward, weights=Weights(), schedules=())
        stack = Stack(
            model_dir,
            engines,
            scorer=Scorer(services.services, config.reward, config.policy.answer),
            evaluation_scorer=Scorer(services.services, everything, config.policy.answer),
            services=services,
        )
        yield stack


async def stop_services(services: RewardServices) -> None:
    """Stop geocoder, encoder, judge and cache, which takes Serve seconds."""
    with phase("stopping geocoder, encoder and judge"):
        await services.stop()


@contextlib.asynccontextmanager
async def starting_engines(
    s: Session, model_dir: str
) -> AsyncIterator[tuple[list[RestartedEngine], asyncio.Future[Any]]]:
    """Yield the run's rollout engines, with the checkpoint in `model_dir`, and what to await until
    they are up; stop them at the end."""
    firsts = [start_engine(s, i, model_dir) for i in range(s.config.rollout.engines)]
    engines = [supervised_engine(s, i, model_dir, first) for i, first in enumerate(firsts)]
    starting = asyncio.gather(*(engine_up(s, i, first) for i, first in enumerate(firsts)))
    try:
        yield engines, starting
    finally:
        with phase(f"stopping {len(engines)} rollout engines"):
            await cancel_and_wait(starting)
            await asyncio.gather(*(engine.close() for engine in engines))


async def cancel_and_wait(work: asyncio.Future[Any]) -> None:
    """Cancel `work` and wait until it has ended; drop its result."""
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


def supervised_engine(s: Session, i: int, model_dir: str, first: RemoteRollout) -> RestartedEngine:
    """Return engine number i of the run, whose later lives start by themselves; `first` is being
    created and still has to be awaited with engine_up.
    """

    async def start(life: int) -> RemoteRollout:
        engine = start_engine(s, i, model_dir, life)
        try:
            await engine_up(s, i, engine)
        except BaseException:
            await engine.end()
            raise
        return engine

    return RestartedEngine(f"rollout engine {i}", first, start, s.config.rollout.max_restarts)


def start_engine(s: Session, i: int, model_dir: str, life: int = 0) -> RemoteRollout:
    """Create the actor of engine number i; a dead life's name may still be taken."""
    rollout = s.config.rollout
    options = {
        "name": f"rollout-{s.run_id}-{i}" + (f"-life{life}" if life else ""),
        "num_cpus": rollout.cpus_per_engine,
        "num_gpus": rollout.gpus_per_engine,
        "max_concurrency": 1000,
        **s.place.engine_options(i),
    }
    check_own_node()
    actor = ray.remote(RolloutEngine).options(**options).remote(s.config, model_dir, store=stored)
    return RemoteRollout(actor, rollout.timeout_s)


async def engine_up(s: Session, i: int, engine: RemoteRollout) -> None:
    """Wait until engine number i has loaded its model. InfraError or UserError when it does not."""
    share = s.config.rollout.gpus_per_engine
    limit_s = GPU_ENGINE_START_S if share else ENGINE_START_S
    try:
        gpus = await s.place.further_gpus(i, share)
        await engine.answer(engine.actor.start.remote(gpus), "a rollout engine's start", limit_s)
    except (InfraError, UserError):
        raise
    except (
        Exception
    ) as error:  # failure taxonomy: whatever a new process raises, this engine does not start
        raise InfraError(
            f"a rollout engine did not start: {' '.join(str(error).split())[:300]}"
        ) from error


@contextlib.asynccontextmanager
async def learner(
    s: Session, model_dir: str, stage: Phase, life: int = 0
) -> AsyncIterator[LearnerGroup]:
    """Yield a learner for one phase on top of the checkpoint in `model_dir`; only GRPO publishes a
    version at every step.

    life: how often this phase's learner has been started again; the dead one's actor names may
    still be taken."""
    publishes = stage.kind == "grpo"
    name = f"learner-{stage.kind}-{s.run_id}" + (f"-life{life}" if life else "")
    check_own_node()
    with phase(f"starting the learner for {stage.kind.upper()}"):
        group = await LearnerGroup.start(s.config, model_dir, stage, publishes, name, s.place.ranks)
    try:
        yield group
    finally:
        with phase("stopping the learner"):
            await group.stop()


def run_until_done(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work`; Ctrl-C, SIGTERM or a closed terminal (SIGHUP) cancels it once, so that it can
    save and clean up; repeats change nothing. Exit code 130 then.
    """

    async def guarded() -> Any:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        asked = False

        def cancel() -> None:
            nonlocal asked
            if asked:
                say("stopping already: this takes until all is saved (SIGKILL ends it at once)")
                return
            asked = True
            say("stopping: saving and cleaning up ...")
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, cancel)
        return await task

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        sys.exit(130)
