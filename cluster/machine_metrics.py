"""What the cluster and the driver's node are doing: replicas, nodes, processor, memory, GPUs.

Looked up in a thread every few seconds, so that no step waits for it; a step records what was seen
last."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import logging
import shutil
import subprocess
from collections.abc import AsyncIterator

import psutil
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from geoagent_rl.metrics.table import SERVICES
from geoagent_rl.plan.memory import GIB

log = logging.getLogger(__name__)

PERIOD_S = 5.0
GPU_QUERY = [
    "nvidia-smi",
    "--query-gpu=utilization.gpu,memory.used",
    "--format=csv,noheader,nounits",
]


@contextlib.asynccontextmanager
async def watched(run_id: str) -> AsyncIterator[dict[str, float]]:
    """Yield a dict that is kept up to date with the machine metrics of metrics/table.py."""
    seen: dict[str, float] = {}

    async def watch() -> None:
        while True:
            try:
                seen.update(await asyncio.to_thread(look, run_id))
            except Exception as error:  # noqa: BLE001 (what only looks stops nothing)
                log.warning("machine metrics: %s: %s", type(error).__name__, error)
            await asyncio.sleep(PERIOD_S)

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def look(run_id: str) -> dict[str, float]:
    """Return the metrics of processor, memory, GPUs and cluster as they are now."""
    memory = psutil.virtual_memory()
    out = {
        "node_cpu_share": psutil.cpu_percent() / 100,  # since the last look
        "node_memory_gib": (memory.total - memory.available) / GIB,
        "driver_memory_gib": psutil.Process().memory_info().rss / GIB,
    }
    return out | gpus() | cluster(run_id)


def cluster(run_id: str) -> dict[str, float]:
    """Return running replicas by service, and nodes; {} while Ray or Serve cannot say."""
    if not ray.is_initialized():  # asking would start one
        return {}
    try:
        applications = serve.status().applications
        nodes = sum(node["Alive"] for node in ray.nodes())
    except (RayError, RayServeException):
        return {}
    running = {service: f"{run_id}-{service.replace('_', '-')}" for service in SERVICES}
    counts: dict[str, float] = {
        f"replicas_{service}": sum(
            count
            for deployment in applications[name].deployments.values()
            for state, count in deployment.replica_states.items()
            if state == "RUNNING"
        )
        for service, name in running.items()
        if name in applications
    }
    return counts | {"nodes": nodes}


def gpus() -> dict[str, float]:
    """Return utilisation and memory of this node, by nvidia-smi; {} where there is none or it does
    not answer."""
    if shutil.which(GPU_QUERY[0]) is None:
        return {}
    try:
        done = subprocess.run(
            GPU_QUERY, capture_output=True, text=True, timeout=PERIOD_S, check=True
        )
        rows = [[float(cell) for cell in row] for row in csv.reader(done.stdout.splitlines())]
    except (
        OSError,
        subprocess.SubprocessError,
        ValueError,
    ):  # ValueError: "[N/A]" on partitioned GPUs
        return {}
    if not rows:
        return {}
    return {
        "gpu_share": sum(r[0] for r in rows) / len(rows) / 100,
        "gpu_memory_gib": sum(r[1] for r in rows) / 1024,
    }
