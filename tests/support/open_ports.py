"""What the listening ports of a process tree answer to whoever has no token."""

from __future__ import annotations

import contextlib
import socket

import grpc
import httpx
import psutil

WAIT_S = 3.0
# Read and write: what a dashboard, a job server and an agent offer
PATHS = (
    ("GET", "/api/jobs/"),
    ("POST", "/api/jobs/"),
    ("POST", "/api/job_agent/jobs/"),
    ("GET", "/api/v0/actors"),
    ("GET", "/nodes?view=summary"),
    ("GET", "/"),
)
# Of Ray's head, of a node's manager and of a worker: each is refused before it is looked at.
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.RayletDriver/Init",
)
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def listening(root: int) -> dict[int, str]:
    """Return the TCP ports on which a process or any below it listens, with its command."""
    found = {}
    tree = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    for process in tree:
        with contextlib.suppress(psutil.Error):
            for link in process.net_connections("tcp"):
                if link.status == psutil.CONN_LISTEN:
                    found[link.laddr.port] = " ".join(process.cmdline())[:120]
    return found


def gives_away(port: int) -> list[str]:
    """Return what the port answers, over HTTP, gRPC and Redis' protocol, without being refused."""
    return [*over_http(port), *over_grpc(port), *over_redis(port)]


def over_http(port: int) -> list[str]:
    """By requests to PATHS; those that end in an error of the connection are refused."""
    found = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S, trust_env=False) as web:
        for method, path in PATHS:
            with contextlib.suppress(httpx.HTTPError):
                body = {"entrypoint": "true"} if method == "POST" else None
                code = web.request(method, path, json=body).status_code
                if code < 400:
                    found.append(f"{method} {path}: {code}")
                if code >= 400 and code not in (401, 403, 404, 405):
                    found.append(f"{method} {path}: {code}, which is no refusal")
    return found


def over_grpc(port: int) -> list[str]:
    """By calls without a token."""
    found = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for call in CALLS:
            ask = channel.unary_unary(call, None, None)
            try:
                found.append(f"{call}: {len(ask(b'', timeout=WAIT_S))} bytes")
            except grpc.RpcError as error:
                spoken = error.code() not in (
                    *REFUSED,
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    grpc.StatusCode.UNIMPLEMENTED,
                )
                if spoken:
                    found.append(f"{call}: {error.code().name} {str(error.details())[:80]}")
                if error.code() in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                ):
                    break  # speaks no gRPC
    return found


def over_redis(port: int) -> list[str]:
    """By a command without a password."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), WAIT_S) as s:
        s.settimeout(WAIT_S)
        s.sendall(b"PING\r\n")
        if s.recv(100).startswith(b"+PONG"):
            return ["Redis answers"]
    return []
