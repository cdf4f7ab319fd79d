"""What a live run consists of at this moment: nodes, engines, learner ranks, replicas, and its
newest step.

May know Ray; must be connected (cluster/running.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from ray import serve

from cluster.scale import SERVICES, replicas
from geoagent_rl.run.records import last_row


def status(run_id: str, run_dir: Path | None = None) -> dict[str, Any]:
    """Return {run_id, nodes, actors, services, step}; `step` is the newest line of metrics.jsonl
    where run_dir can be read."""
    nodes = [
        {"address": node["NodeManagerAddress"], "cpus": node["Resources"].get("CPU", 0.0)}
        | {"gpus": node["Resources"].get("GPU", 0.0), "alive": node["Alive"]}
        for node in ray.nodes()
    ]
    names = sorted(actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True))
    applications = serve.status().applications
    services = {}
    for service, suffix in SERVICES.items():
        application = applications.get(f"{run_id}-{suffix}")
        services[service] = {
            "status": application.status.value if application else "absent",
            "replicas": replicas(run_id, service),
        }
    actors = [name for name in names if f"-{run_id}-" in name and "SERVE" not in name]
    found = {"run_id": run_id, "nodes": nodes, "actors": actors, "services": services}
    return found | {"step": newest_step(run_dir) if run_dir else None}


def newest_step(run_dir: Path) -> dict[str, Any] | None:
    """Return the last record of metrics.jsonl; None before the first."""
    return last_row(run_dir / "metrics.jsonl") or None


def show(found: dict[str, Any]) -> str:
    """Write `status` for people."""
    lines = [f"run {found['run_id']}"]
    for node in found["nodes"]:
        state = "" if node["alive"] else "  dead"
        lines.append(
            f"  node {node['address']:<18}{node['cpus']:g} CPU, {node['gpus']:g} GPU{state}"
        )
    lines += [f"  actor {name}" for name in found["actors"]]
    for service, row in found["services"].items():
        counts = (
            ", ".join(f"{n} {state.lower()}" for state, n in row["replicas"].items())
            or "no replica"
        )
        lines.append(f"  {service:<9}{row['status'].lower()}: {counts}")
    if step := found["step"]:
        lines.append(
            f"  step {step['step']}: reward {step['reward_total_mean']:.3f}, {step['step_seconds']:.1f} s, "
            f"{step['unscorable_share']:.1%} unscorable"
        )
    return "\n".join(lines)
