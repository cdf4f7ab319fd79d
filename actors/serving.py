"""Starts and stops the reward services on Ray Serve.

Applications are named after the run, have no HTTP server, and are deleted at exit and at the next
start of the same run. reward_clients.py has those through which a Scorer asks them."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cache import Cache
from actors.cache_counters import cascade_shares, counter_sums, hit_shares
from actors.redis_server import CacheServer, new_password
from actors.reward_clients import GeoEmbedClient, JudgeClient, last_line, line_of
from actors.reward_worker import GeoEmbedWorker
from geoagent_rl.answers.hedge import without_hedges
from geoagent_rl.config import Config
from geoagent_rl.config.reward import GeocoderConfig, JudgeConfig, RewardConfig
from geoagent_rl.geo import remote
from geoagent_rl.geo.providers import provider_names
from geoagent_rl.network import free_port
from geoagent_rl.plan.nodes import node_options
from geoagent_rl.rewards import encoder, judge_endpoint, semantic
from geoagent_rl.rewards.services import (
    Address,
    Services,
)
from geoagent_rl.terminal import STUCK
from geoagent_rl.types import InfraError, UserError

log = logging.getLogger(__name__)
APPLICATIONS = ("geo-embed", "judge")  # of a run; their names follow its id
PREWARM_CHUNK = 256  # addresses asked at a time
WAITING_CHUNK = (
    8  # questions a call to workers that wait for services: many small calls keep all of them busy
)
DELETE_S = 120.0  # in which Serve deletes a run's applications: longer than a judge takes to end
POLL_S = 0.2
QUIET = {"log_level": "WARNING", "enable_access_log": False}
# requests per replica; lower limits make Serve's router back off badly, so replicas bound
# themselves
ONGOING = 1024


@dataclass
class RewardServices:
    """The running services of one run. `services` is what a Scorer takes; call `stop` in the
    end.
    """

    run_id: str
    places: GeoEmbedClient
    agent: JudgeClient
    cache_url: str
    cache_server: Any | None  # handle of the CacheServer actor, None for an external cache
    counted: Counter[str] = field(
        default_factory=Counter
    )  # by all workers until the last call of cache_metrics
    _cache: Cache | None = None

    @property
    def services(self) -> Services:
        """Return the clients by what a Scorer asks them."""
        return Services(self.places, self.places, self.agent)

    async def prewarm(self, truths: Iterable[Address]) -> int:
        """Ask what right answers will ask: where each truth lies and how like itself each of its
        names is, so that both are in the cache and the encoder knows the names. Returns how many
        truths failed; that is no harm, they are asked again when an answer names them. Later hit
        shares do not count these questions."""
        levels = ((c, r, p) for c, r, p in map(without_hedges, truths))
        waiting, failed = list(dict.fromkeys(truth for truth in levels if any(truth))), 0
        for i in range(0, len(waiting), PREWARM_CHUNK):
            found = await asyncio.gather(
                *map(self._prewarm, waiting[i : i + PREWARM_CHUNK]), return_exceptions=True
            )
            failed += sum(isinstance(answer, InfraError) for answer in found)
        await self.cache_metrics()
        return failed

    async def _prewarm(self, truth: Address) -> None:
        pairs = [pair for pair in semantic.pairs(truth, truth) if pair]
        await asyncio.gather(self.places.geocode([truth]), self.places.similarities(pairs))

    async def cache_metrics(self) -> dict[str, float]:
        """Return the cache's hit shares and a cascade's shares since the last call, up to half a
        second old; one look-up in Redis, nothing while it is down.
        """
        self._cache = self._cache or Cache(self.cache_url)
        sums = await counter_sums(self._cache, [f"{self.run_id}-{name}" for name in APPLICATIONS])
        if sums is None:
            return {}
        new, self.counted = sums - self.counted, sums
        return hit_shares(new) | cascade_shares(new)

    async def stop(self) -> None:
        """Close the clients, delete the applications, end the embedded Redis. Idempotent."""
        await self.places.close()
        await self.agent.close()
        if self._cache is not None:
            await self._cache.close()
            self._cache = None
        await asyncio.to_thread(stop_applications, self.run_id)
        if self.cache_server is not None:
            await asyncio.to_thread(_stop_cache, self.cache_server)
            self.cache_server = None


async def start_services(
    config: Config,
    run_id: str,
    cache_dir: str | Path,
    judge: Callable[[Config, str], serve.Application] | None = None,
) -> RewardServices:
    """Start cache, reward workers and consistency agent, and wait until they are healthy. Ray must
    be running.

    cache_dir: of the embedded Redis unless reward.cache.dir says otherwise. `judge` (configuration,
    cache URL -> application) stands in for the real agent, judge_workers(). Raises InfraError when
    a part does not come up, UserError when a setting is at fault."""
    encoder.check(config.reward.encoder.model)
    await remote.check(config.reward.geocoder, os.environ)
    if judge is None:
        await judge_endpoint.check(config.judge, os.environ)
    services = await asyncio.to_thread(_start, config, run_id, cache_dir, judge or judge_workers)
    await (
        services.cache_metrics()
    )  # what an earlier life of this run has counted is none of this one's
    return services


def _start(
    config: Config,
    run_id: str,
    cache_dir: str | Path,
    judge: Callable[[Config, str], serve.Application],
) -> RewardServices:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"location": "NoServer"})
    stop_applications(run_id)  # of an earlier life of this run
    cache_server, cache_url = start_cache(config.reward, cache_dir)
    try:
        applications = (reward_workers(config.reward, cache_url), judge(config, cache_url))
        by_hand = (not config.reward.geocoder.max_replicas, not config.judge.max_replicas)
        handles = _run(
            serve.RunTarget(app, f"{run_id}-{name}", None, QUIET, external_scaler_enabled=free)
            for name, app, free in zip(APPLICATIONS, applications, by_hand, strict=True)
        )
    except BaseException:
        stop_applications(run_id)
        if cache_server is not None:
            _stop_cache(cache_server)
        raise
    timeout_s = config.reward.attempt_timeout_s
    alone = provider_names(config.reward.geocoder.provider) == ("gazetteer",)
    places = GeoEmbedClient(handles[0], timeout_s, max_chunk=64 if alone else WAITING_CHUNK)
    agent = JudgeClient(
        handles[1], timeout_s, max_chunk=16
    )  # small: a call waits for its slowest verdict
    return RewardServices(run_id, places, agent, cache_url, cache_server)


def start_cache(config: RewardConfig, cache_dir: str | Path) -> tuple[Any | None, str]:
    """Return (CacheServer actor or None, cache URL). The embedded server runs on this node, for
    workers of this node."""
    if config.cache.url != "embedded":
        Cache(config.cache.url)  # a bad URL is refused here, not in every worker
        return None, config.cache.url
    directory = Path(config.cache.dir or cache_dir).absolute()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = CacheServer.OPTIONS | {"scheduling_strategy": here}
    actor: Any = (
        ray.remote(CacheServer)
        .options(**options)
        .remote(str(directory), free_port(), new_password())
    )
    try:
        return actor, ray.get(actor.address.remote(), timeout=60.0)
    except RayError as error:
        ray.kill(actor)
        cause = getattr(error, "cause", None)
        if isinstance(cause, UserError):
            raise cause from None
        raise InfraError(f"the embedded Redis did not start: {line_of(error)}") from error


def reward_workers(config: RewardConfig, cache_url: str) -> serve.Application:
    """Return the GeoEmbedWorker deployment as an application."""
    deployment = serve.deployment(
        name="GeoEmbedWorker",
        **replicas(config.geocoder),
        max_ongoing_requests=ONGOING,
        ray_actor_options={"num_cpus": config.geocoder.cpus_per_replica}
        | node_options(config.geocoder.nodes),
        health_check_period_s=2.0,
        # three in a row: a hung replica is replaced after half a minute
        health_check_timeout_s=10.0,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=config.geocoder.timeout_s
        + 5.0,  # one that goes finishes what it is asked
        # what fails there fails every time: bad settings, broken files
        max_constructor_retry_count=1,
    )
    return deployment(GeoEmbedWorker).bind(config, cache_url)


def judge_workers(config: Config, cache_url: str) -> serve.Application:
    """Return the consistency agent as an application: a vLLM engine per replica, or an endpoint's
    clients.
    """
    from actors.judge_worker import JudgeWorker

    deployment = serve.deployment(
        name="ConsistencyAgent",
        **replicas(config.judge),
        max_ongoing_requests=ONGOING,
        ray_actor_options={
            "num_cpus": config.judge.cpus_per_replica,
            "num_gpus": config.judge.engine_gpus,
        },
        health_check_period_s=5.0,
        health_check_timeout_s=20.0,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=30.0,
        max_constructor_retry_count=2,
    )
    return deployment(JudgeWorker).bind(config.judge, cache_url, config.reward.cache.timeout_s)


def replicas(section: GeocoderConfig | JudgeConfig) -> dict[str, Any]:
    """Return Serve's options for how many replicas: a number (cluster/scale.py changes it), or by
    load between two.

    Load is calls under way, running or waiting, and a call is a chunk of many questions: Serve's
    own limit of calls per replica (ONGOING) is never reached, what a replica really does at once is
    bounded inside it, and at most `parallel` calls of each method (reward_clients.py) are under way
    in the whole run. So target_ongoing is small."""
    if not section.max_replicas:
        return {"num_replicas": section.replicas}
    scaling = {
        "min_replicas": section.min_replicas,
        "initial_replicas": section.replicas,
        "max_replicas": section.max_replicas,
        "target_ongoing_requests": section.target_ongoing,
        "metrics_interval_s": 1.0,
        "look_back_period_s": 4.0,
        "upscale_delay_s": 2.0,
        "downscale_delay_s": section.idle_s,
    }
    return {"autoscaling_config": scaling}


def stop_applications(run_id: str) -> None:
    """Delete the applications of this run, if any. Safe when Serve or Ray is not running, or was
    lost with its nodes: Serve's own calls wait for its controller for ever, so they are left
    behind then."""
    if not ray.is_initialized():
        return
    work = _thread(_delete_all, run_id)
    deadline = time.monotonic() + DELETE_S
    while work.is_alive() and time.monotonic() < deadline:
        if not any(node["Alive"] for node in ray.nodes()):
            break
        work.join(POLL_S)
    if work.is_alive():
        log.warning("Serve does not answer: the applications of this run may be left")


def _delete_all(run_id: str) -> None:
    try:
        names = [name for name in serve.status().applications if name.startswith(f"{run_id}-")]
    except (RayError, RayServeException):
        return  # the cluster is going down: nothing is left to delete
    for thread in [_thread(_delete, name) for name in names]:
        thread.join()


def _delete(name: str) -> None:
    try:
        serve.delete(name)
    except TimeoutError as error:
        log.warning("%s; Serve goes on deleting it", error)
    except (RayError, RayServeException):
        return  # as above


def _thread(work: Callable[[str], None], name: str) -> threading.Thread:
    """Start `work` in a thread that no exit waits for (a pool's are waited for)."""
    thread = threading.Thread(target=work, args=(name,), name=f"{STUCK}{name}", daemon=True)
    thread.start()
    return thread


def _run(targets: Iterable[serve.RunTarget]) -> list[DeploymentHandle[Any]]:
    """Start all at once and wait. Serve has tried failing constructors again by the time it gives
    up.
    """
    targets = list(targets)
    names = [target.name for target in targets]
    try:
        handles: list[DeploymentHandle[Any]] = serve.run_many(targets)
        return handles
    except (RayError, RayServeException, RuntimeError) as error:
        reasons = [
            f"{app}: {last_line(deployment.message)}"
            for app, status in serve.status().applications.items()
            for deployment in status.deployments.values()
            if app in names and deployment.status != "HEALTHY"
        ]
        raise InfraError(
            f"a reward service did not start: {'; '.join(reasons) or line_of(error)}"
        ) from error


def _stop_cache(actor: Any) -> None:
    try:
        ray.get(actor.stop.remote(), timeout=10.0)
    except RayError:
        pass  # dead already: its server died with it
    ray.kill(actor)
