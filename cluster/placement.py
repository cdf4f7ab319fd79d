"""Reserves a run's place on the cluster before anything slow starts, and says in seconds when it
cannot be had.

Learner ranks get one placement group (packed on as few nodes as can be), engines another; a bundle
lies on one node, so an engine's GPUs (tensor parallel) are always together. Where they share GPUs
(placement.colocate) every engine has a group with the ranks on its GPUs. Judge and reward
workers are Serve replicas, which Serve places and scales by their own options (actors/serving.py);
here it is only made sure that there is room for them. May know Ray and the configuration; nothing
of models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.serving import stop_applications
from geoagent_rl.config import Config
from geoagent_rl.plan.resources import Cluster, Role, check, roles
from geoagent_rl.types import UserError

RESERVE_S = 10.0  # for what the nodes can hold: longer means that another run has it
POLL_S = 0.25
Place = PlacementGroupSchedulingStrategy


@dataclass
class Reservation:
    """The placement groups of one run, and the bundles of each rank and engine: an engine that
    shares several GPUs with ranks has a bundle for each."""

    groups: list[PlacementGroup]
    ranks: list[Place]
    engines: list[list[Place]]

    def engine_options(self, i: int) -> dict[str, Any]:
        """Return the Ray actor options of engine number i."""
        return {"scheduling_strategy": self.engines[i][0]}

    async def further_gpus(self, i: int, share: float) -> list[str]:
        """Return the GPUs of engine number i beside its first, where it has a share of several: Ray
        shows an actor only one GPU of which it has a share."""
        asked = [
            visible_gpu.options(num_gpus=share, scheduling_strategy=place).remote()
            for place in self.engines[i][1:]
        ]
        return await asyncio.gather(*(asyncio.wrap_future(ref.future()) for ref in asked))

    def release(self) -> None:
        """Give the place back."""
        for group in self.groups:
            remove_placement_group(group)


@ray.remote(num_cpus=0)
def visible_gpu() -> str:
    """Return the GPU of the bundle that this runs in, as CUDA names it."""
    gpu: str = ray.get_runtime_context().get_accelerator_ids()["GPU"][0]
    return gpu


async def reserve(config: Config, run_id: str, only_learner: bool = False) -> Reservation:
    """Check that the cluster can hold the run and take what learner and engines need.

    Raises UserError with what was asked, what the cluster has and what to change: at once for what
    can never fit, after RESERVE_S for what others hold, after placement.wait_s where the
    configuration allows for nodes to come."""
    asked, wait_s = roles(config, only_learner), config.placement.wait_s
    if wait_s == 0:
        check(asked, living_nodes())
    await asyncio.to_thread(
        stop_applications, run_id
    )  # of an earlier life of this run: they may hold what it needs
    free = ray.available_resources()  # before the groups below hold some of it
    if config.placement.colocate and not only_learner:
        reservation = shared_places(config, run_id)
    else:
        reservation = separate_places(asked[:2], run_id)
    try:
        await room(reservation, asked, max(RESERVE_S, wait_s), free)
    except BaseException:
        reservation.release()
        raise
    return reservation


async def room(
    reservation: Reservation, asked: Sequence[Role], seconds: float, free: Mapping[str, float]
) -> None:
    """Wait until the groups are placed and what is left over is enough for the services.

    free: what the cluster had before; the message of the UserError names it."""
    deadline, services = time.monotonic() + seconds, asked[2:]
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(
                *(asyncio.wrap_future(group.ready().future()) for group in reservation.groups)
            )
            while lacking(services, ray.available_resources()):  # noqa: ASYNC110 (Ray tells nobody)
                await asyncio.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
    except TimeoutError:
        levers = " or ".join(f"{role.count_key}={role.count}" for role in asked)
        raise UserError(
            f"no room for this run within {seconds:g} s: it asks for {', '.join(role.text() for role in asked)}; "
            f"{living_nodes().text()}, {free.get('GPU', 0.0):g} GPU and {free.get('CPU', 0.0):g} CPU of it free; "
            f"let it wait for other runs with placement.wait_s, lower {levers}, or add nodes"
        ) from None


def lacking(services: Sequence[Role], free: Mapping[str, float]) -> bool:
    """Say whether the services need more than is free."""
    needs = {
        "CPU": sum(p.count * p.cpus for p in services),
        "GPU": sum(p.count * p.gpus for p in services),
    }
    return any(amount > free.get(name, 0.0) + 1e-6 for name, amount in needs.items())


def living_nodes() -> Cluster:
    """Return resources and labels of the nodes that live."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(
        [node["Resources"] for node in nodes], [node.get("Labels", {}) for node in nodes]
    )


def bundle(role: Role) -> dict[str, float]:
    """Return what Ray reserves for one role."""
    return {"CPU": role.cpus} | ({"GPU": role.gpus} if role.gpus else {})


def separate_places(asked: Sequence[Role], run_id: str) -> Reservation:
    """Ask for a group of ranks and one of engines, each packed on as few nodes as can be: ranks
    first, for they talk most, and engines fill what nodes are left."""
    groups = [
        placement_group([bundle(role)] * role.count, strategy="PACK", name=f"{name}-{run_id}")
        for name, role in zip(("learner", "engines"), asked, strict=False)
    ]
    ranks, *engines = [
        [Place(group, placement_group_bundle_index=i) for i in range(role.count)]
        for group, role in zip(groups, asked, strict=True)
    ]
    return Reservation(groups, ranks, [[place] for place in (engines[0] if engines else [])])


def shared_places(config: Config, run_id: str) -> Reservation:
    """Ask for a group for each engine, on one node, with a bundle for each of its GPUs: the
    engine's share of it and a rank's."""
    r, c = config.rollout, config.learner
    gpu = r.gpus_per_engine + c.gpus_per_rank
    bundles = [{"GPU": gpu, "CPU": c.cpus_per_rank} for _ in range(r.tensor_parallel)]
    bundles[0]["CPU"] += r.cpus_per_engine
    groups = [
        placement_group(bundles, strategy="STRICT_PACK", name=f"shared-{i}-{run_id}")
        for i in range(r.engines)
    ]
    engines = [
        [Place(group, placement_group_bundle_index=i) for i in range(len(bundles))]
        for group in groups
    ]
    return Reservation(groups, [place for places in engines for place in places], engines)
