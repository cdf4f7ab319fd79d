"""Reserves a run's place on the cluster before anything slow starts, and says in seconds when it
cannot be had.

Learner ranks get one placement group (packed on as few nodes as can be), engines another; a bundle
lies on one node, so an engine's GPUs (tensor parallel) are always together. Judge and reward
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
from geoagent_rl.plan.resources import Cluster, Part, check, parts
from geoagent_rl.types import UserError

RESERVE_S = 10.0  # for what the nodes can hold: longer means that another run has it
POLL_S = 0.25


@dataclass
class Reservation:
    """The placement groups of one run; the same one twice where engine and learner share a GPU."""

    learner: PlacementGroup
    engines: PlacementGroup | None  # None: a job that has none

    def engine_options(self, i: int) -> dict[str, Any]:
        """Return the Ray actor options of engine number i."""
        if self.engines is None:
            raise ValueError("no place is reserved for engines")
        return {
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                self.engines, placement_group_bundle_index=i
            )
        }

    def groups(self) -> list[PlacementGroup]:
        """Return the placement groups, each once."""
        return list(
            {
                group.id: group for group in (self.learner, self.engines) if group is not None
            }.values()
        )

    def release(self) -> None:
        """Give the place back."""
        for group in self.groups():
            remove_placement_group(group)


async def reserve(config: Config, run_id: str, only_learner: bool = False) -> Reservation:
    """Check that the cluster can hold the run and take what learner and engines need.

    Raises UserError with what was asked, what the cluster has and what to change: at once for what
    can never fit, after RESERVE_S for what others hold, after placement.wait_s where the
    configuration allows for nodes to come."""
    asked, wait_s = parts(config, only_learner), config.placement.wait_s
    if wait_s == 0:
        check(asked, living_nodes())
    await asyncio.to_thread(
        stop_applications, run_id
    )  # of an earlier life of this run: they may hold what it needs
    free = ray.available_resources()  # before the groups below hold some of it
    learner, *others = [[bundle(part)] * part.count for part in asked[:2]]
    if config.placement.colocate and not only_learner:
        both = {
            name: learner[0].get(name, 0.0) + others[0][0].get(name, 0.0) for name in ("CPU", "GPU")
        }
        shared = group_of([both], f"shared-{run_id}")
        reservation = Reservation(shared, shared)
    else:
        ranks = group_of(
            learner, f"learner-{run_id}"
        )  # first: they talk most, and engines fill what nodes are left
        reservation = Reservation(
            ranks, group_of(others[0], f"engines-{run_id}") if others else None
        )
    try:
        await room(reservation, asked, max(RESERVE_S, wait_s), free)
    except BaseException:
        reservation.release()
        raise
    return reservation


async def room(
    reservation: Reservation, asked: Sequence[Part], seconds: float, free: Mapping[str, float]
) -> None:
    """Wait until the groups are placed and what is left over is enough for the services.

    free: what the cluster had before; the message of the UserError names it."""
    deadline, services = time.monotonic() + seconds, asked[2:]
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(
                *(asyncio.wrap_future(group.ready().future()) for group in reservation.groups())
            )
            while lacking(services, ray.available_resources()):  # noqa: ASYNC110 (Ray tells nobody)
                await asyncio.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
    except TimeoutError:
        levers = " or ".join(f"{part.count_key}={part.count}" for part in asked)
        raise UserError(
            f"no room for this run within {seconds:g} s: it asks for {', '.join(part.text() for part in asked)}; "
            f"{living_nodes().text()}, {free.get('GPU', 0.0):g} GPU and {free.get('CPU', 0.0):g} CPU of it free; "
            f"let it wait for other runs with placement.wait_s, lower {levers}, or add nodes"
        ) from None


def lacking(services: Sequence[Part], free: Mapping[str, float]) -> bool:
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


def bundle(part: Part) -> dict[str, float]:
    """Return what Ray reserves for one part."""
    return {"CPU": part.cpus} | ({"GPU": part.gpus} if part.gpus else {})


def group_of(bundles: list[dict[str, float]], name: str) -> PlacementGroup:
    """Ask Ray for a placement group, packed on as few nodes as can be."""
    group: PlacementGroup = placement_group(bundles, strategy="PACK", name=name)
    return group
