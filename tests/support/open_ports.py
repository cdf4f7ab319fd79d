"""What the listening ports of a process tree answer to whoever has no token."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import grpc
import httpx
import psutil

WAIT_S = 3.0
Address = tuple[str, int]
# What a dashboard, a job server and an agent take.
PATHS = (
    ("GET", "/api/jobs/"),
    ("POST", "/api/jobs/"),
    ("POST", "/api/job_agent/jobs/"),
    ("GET", "/api/v0/actors"),
    ("GET", "/nodes?view=summary"),
    ("GET", "/metrics"),
)
# Of Ray's head, of a node's manager and of a worker: refused before it is looked at.
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.RayletDriver/Init",
)
SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)  # speaks no gRPC


def listening(root: int) -> dict[Address, str]:
    """Return the TCP addresses at which a process or any below it listens, with its command."""
    found = {}
    for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            for link in process.net_connections("tcp"):
                if link.status == psutil.CONN_LISTEN:
                    ip, port = link.laddr
                    ip = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(ip, ip)
                    ip = ip.removeprefix("::ffff:")  # an IPv4 address
                    found[ip, port] = " ".join(process.cmdline())[:100]
    return found


def answers(address: Address) -> dict[str, str]:
    """Return {what was asked: what was answered}, over HTTP, gRPC and Redis' protocol."""
    return {**dict(over_http(address)), **dict(over_grpc(address)), **dict(over_redis(address))}


def over_http(address: Address) -> Iterator[tuple[str, str]]:
    """By requests to PATHS; an error of the connection is no answer."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    with httpx.Client(base_url=f"http://{host}:{address[1]}", timeout=WAIT_S, trust_env=False) as c:
        for method, path in PATHS:
            body = {"entrypoint": "true"} if method == "POST" else None
            try:
                said = c.request(method, path, json=body)
                counters = said.headers.get("Content-Type", "").startswith("text/plain; version=")
                yield f"{method} {path}", "counters" if counters else str(said.status_code)
            except httpx.HTTPError:
                return


def over_grpc(address: Address) -> Iterator[tuple[str, str]]:
    """By calls without a token."""
    with grpc.insecure_channel(
        f"ipv{6 if ':' in address[0] else 4}:{address[0]}:{address[1]}"
    ) as c:
        for call in CALLS:
            try:
                c.unary_unary(call, None, None)(b"", timeout=WAIT_S)
                yield call, "answered"
            except grpc.RpcError as error:
                if error.code() in SILENT:
                    return
                yield call, error.code().name


def over_redis(address: Address) -> Iterator[tuple[str, str]]:
    """By a command without a password."""
    with contextlib.suppress(OSError), socket.create_connection(address, WAIT_S) as link:
        link.settimeout(WAIT_S)
        link.sendall(b"PING\r\n")
        if (said := link.recv(100)).startswith((b"+", b"-NOAUTH")):
            yield "PING", said.decode().split()[0]
