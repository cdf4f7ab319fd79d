"""Clears up after a driver that was lost (SIGKILL): on a shared cluster nobody else would. When the
driver's node dies this dies with it, and the run's next life clears up.

Ray ends a lost driver's own actors, the embedded Redis and placement groups among them. Serve
applications belong to Serve's controller and would stay. So a run that joins a cluster leaves a
small detached actor on its node which waits for the driver's pulse to stop. May know Ray and Serve
only."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.serving import stop_applications

NAMESPACE = "geoagent"
RETRY_S = 5.0


class Pulse:
    """Owned by the driver: a call that is answered only by its death."""

    async def beat(self) -> None:
        """Never return."""
        await asyncio.Event().wait()


class Janitor:
    """A detached actor that outlives the driver and clears up after it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    async def watch(self, pulse: list[Any]) -> None:
        """Watch a pulse until it is gone. pulse: the Pulse's handle, in a list so that Ray passes
        it on as it is."""
        while True:
            try:
                await pulse[0].beat.remote()
            except ActorUnavailableError:  # the network, perhaps: not yet a death
                await asyncio.sleep(RETRY_S)
            except RayError:
                break
        await asyncio.to_thread(stop_applications, self.run_id)
        ray.actor.exit_actor()


def names_of(run_id: str) -> list[str]:
    """Return the names of the janitors of a run."""
    named = ray.util.list_named_actors(all_namespaces=True)
    ours = (row["name"] for row in named if row["namespace"] == NAMESPACE)
    return [name for name in ours if name.startswith(f"janitor-{run_id}-")]


@contextlib.contextmanager
def janitor(run_id: str) -> Iterator[None]:
    """Let the loss of this process, while in it, leave nothing of run `run_id` behind."""
    for name in names_of(run_id):  # of an earlier life of this run, which cleans up itself now
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(name, NAMESPACE))
    # Not softly: Ray may then place it on another node, whose death would be taken for the
    # driver's.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    free = {"num_cpus": 0, "scheduling_strategy": here}
    pulse: Any = ray.remote(Pulse).options(**free).remote()
    detached = {
        "name": f"janitor-{run_id}-{uuid.uuid4().hex[:8]}",
        "namespace": NAMESPACE,
        "lifetime": "detached",
    }
    actor: Any = ray.remote(Janitor).options(**detached, **free).remote(run_id)
    actor.watch.remote([pulse])
    try:
        yield
    finally:
        ray.kill(actor)  # first: it would take the pulse's end for the driver's
        ray.kill(pulse)
