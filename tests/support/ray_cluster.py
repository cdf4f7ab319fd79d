"""A Ray cluster of several nodes on this machine, in processes of its own: with a dashboard and a
token, as users have.

`running(...)` starts it and takes it down; this file run as a script is the process that owns it
(Ray settles how it authenticates once per process, and the tests' own process runs Ray without a
token)."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoagent_rl.network import free_port

START_S = 150.0
STOP_S = 60.0


@dataclass
class Running:
    """env: what a process needs to use the cluster as its users do."""

    address: str
    dashboard: str
    folder: str  # of logs and sockets
    env: dict[str, str]


@contextmanager
def running(nodes: list[dict[str, Any]], variables: dict[str, str]) -> Iterator[Running]:
    """nodes: arguments of cluster_utils.Cluster.add_node, the head first. variables: of the nodes'
    environment.
    """
    folder = tempfile.mkdtemp(prefix="ga-")  # short: Ray's socket paths must be
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    binaries = str(Path(sys.executable).parent)
    path = {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"
    }  # jobs find `geoagent-rl` as their head does
    job = json.dumps({"folder": folder, "nodes": nodes})
    owner = subprocess.Popen(
        [sys.executable, __file__, job],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | auth | path | variables,
    )
    try:
        line = owner.stdout.readline()
        if not line:
            raise RuntimeError("the test cluster did not start")
        found = json.loads(line)
        env = os.environ | auth | path | {"RAY_API_SERVER_ADDRESS": found["dashboard"]}
        yield Running(found["address"], found["dashboard"], folder, env)
    finally:
        owner.stdin.close()  # its sign to end
        try:
            owner.wait(STOP_S)
        except subprocess.TimeoutExpired:
            owner.kill()
        owner.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def own(folder: str, nodes: list[dict[str, Any]]) -> None:
    """The owner's part: starts the nodes, says where they are, waits for the end of standard
    input.
    """
    os.environ.pop("RAY_ADDRESS", None)
    os.environ |= {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    from ray.cluster_utils import Cluster

    port, agent = free_port(), free_port()
    head = {
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": port,
        "temp_dir": folder,
    }
    head["dashboard_agent_listen_port"] = (
        agent  # which takes jobs; its usual port may be another cluster's
    )
    cluster = Cluster(initialize_head=True, head_node_args=head | nodes[0])
    try:
        for node in nodes[1:]:
            cluster.add_node(**node)
        # As `ray start` does: a job's supervisor looks here for its cluster, and without the file
        # takes the first raylet of the machine, which may be another test's.
        Path(folder, "ray_current_cluster").write_text(cluster.address)
        print(
            json.dumps({"address": cluster.address, "dashboard": f"http://127.0.0.1:{port}"}),
            flush=True,
        )
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    own(**json.loads(sys.argv[1]))
