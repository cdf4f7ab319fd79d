"""Several Ray nodes on one machine, each a `ray start` of its own that can be killed as a whole:
for trying out what happens to a run when nodes come, go and die. Nothing outlives the block; never
calls `ray stop`, which is machine-wide. Ray listens on all addresses of the machine, so the nodes
take requests with a token only: that of this process' environment (`guarded`)."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from geoagent_rl.network import free_port
from geoagent_rl.types import InfraError

START_S = 120.0
STOP_S = 10.0
# A dead node is noticed after 2-3 s instead of 15 s (read when the head starts). An answer may take
# Ray's own 10 s: a busy node is no dead node.
QUICK = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def guarded() -> dict[str, str]:
    """Return the environment of nodes, and of who speaks to them, with a fresh token; it has to be
    this process' own before Ray is imported."""
    return {**QUICK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@dataclass
class Node:
    """One `ray start --block` and everything below it."""

    name: str
    process: subprocess.Popen[bytes]
    family: set[psutil.Process] = field(default_factory=set)

    def alive(self) -> list[psutil.Process]:
        """Return its processes that still run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            self.family |= {root, *root.children(recursive=True)}
        return [p for p in self.family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def kill(self) -> None:
        """Send SIGKILL to all its processes at once, as when the machine loses its power."""
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(STOP_S)

    def stop(self) -> None:
        """End it as `ray stop` would."""
        with contextlib.suppress(ProcessLookupError):
            self.alive()
            self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        psutil.wait_procs(self.alive(), timeout=STOP_S)
        self.kill()


@dataclass
class LocalCluster:
    """A Ray cluster of several nodes on this machine."""

    address: str  # of the head, for ray.init and RAY_ADDRESS
    dashboard: str  # http://..., "" without one
    folder: Path  # Ray's temporary directory
    nodes: list[Node] = field(default_factory=list)

    def add(
        self, name: str, cpus: int, resource: str, ip: str = "", inside: Sequence[str] = ()
    ) -> Node:
        """Start a further node, which Ray knows by two custom resources: `resource` and its name.
        `inside` goes before the command (`ip netns exec NAME`), with the node's own ip.
        """
        words = [
            "--address",
            self.address,
            "--num-cpus",
            str(cpus),
            "--resources",
            json.dumps({resource: 1, name: 1}),
            # of its own: a node that unpacks a job's files first removes those that lie there
            "--temp-dir",
            str(self.folder / str(len(self.nodes))),
        ]
        node = start(
            name, [*words, *(["--node-ip-address", ip] if ip else [])], self.folder, inside
        )
        self.nodes.append(node)
        return node


@contextlib.contextmanager
def local_cluster(
    cpus: int, dashboard: bool = False, ip: str = "127.0.0.1", resource: str = "head_node"
) -> Iterator[LocalCluster]:
    """Yield a head node with `cpus` CPUs and no GPU. Its folder lies in the system's temporary
    directory: Ray's socket paths must stay short.
    """
    folder = Path(tempfile.mkdtemp(prefix="ga-"))
    port, web = free_port(), free_port()
    words = [
        "--head",
        "--port",
        str(port),
        "--num-cpus",
        str(cpus),
        "--num-gpus",
        "0",
        "--temp-dir",
        str(folder),
    ]
    words += [
        "--node-ip-address",
        ip,
        "--include-dashboard",
        str(dashboard).lower(),
        "--dashboard-port",
        str(web),
    ]
    words += [
        "--ray-client-server-port",
        str(free_port()),
        "--resources",
        json.dumps({resource: 1}),
    ]
    cluster = LocalCluster(f"{ip}:{port}", f"http://127.0.0.1:{web}" if dashboard else "", folder)
    try:
        cluster.nodes.append(start("head", words, folder))
        if dashboard:
            answers(f"{cluster.dashboard}/api/version")
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            node.stop()
        shutil.rmtree(folder, ignore_errors=True)


def start(name: str, words: list[str], folder: Path, inside: Sequence[str] = ()) -> Node:
    """Start a node and wait until it is up. InfraError with its last words when it does not come
    up.
    """
    ray = str(Path(sys.executable).with_name("ray"))
    command = [
        *inside,
        ray,
        "start",
        "--block",
        "--disable-usage-stats",
        "--object-store-memory",
        str(128 * 2**20),
    ]
    command += ["--dashboard-agent-listen-port", str(free_port()), *words]
    env = {
        **os.environ,
        **QUICK,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    env.pop("RAY_ADDRESS", None)
    with (folder / f"start-{name}.log").open("w") as log:
        node = Node(
            name,
            subprocess.Popen(command, stdout=log, stderr=log, env=env, stdin=subprocess.DEVNULL),
        )
    deadline = time.monotonic() + START_S
    while "will now block forever" not in (said := Path(log.name).read_text(errors="replace")):
        if node.process.poll() is not None or time.monotonic() > deadline:
            node.kill()
            raise InfraError(
                f"the Ray node {name!r} did not start: {' '.join(said.split())[-300:]}"
            )
        time.sleep(0.1)
    return node


def answers(url: str) -> None:
    """Wait until it does: `ray start` is done before the dashboard, which takes jobs, is up."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            token = os.environ.get("RAY_AUTH_TOKEN", "")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            httpx.get(url, timeout=START_S, trust_env=False, headers=headers).raise_for_status()
            return
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                raise InfraError(f"Ray's dashboard at {url} did not come up: {error}") from None
        time.sleep(0.1)
