"""`geoagent-rl doctor`: what this machine and environment have, lack and need, and what to do about
each failure.

API keys are only ever said to be present or absent. Imports no engine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict

from rich.console import Console

from actors.redis_binary import redis_binary, redis_version
from cluster.cli.doctor_machine import machine, python
from cluster.cli.doctor_packages import IMPORTS, MEND, auto_gptq, media, package, torch_and_gpu
from cluster.cli.finding import Finding
from geoagent_rl.terminal import progress
from geoagent_rl.types import InfraError

REDIS_TIMEOUT_S = 5.0
KEYS = {
    "OPENCAGE_API_KEY": "geocoding by OpenCage",
    "JUDGE_API_KEY": "a judge at an endpoint",
    "HF_TOKEN": "gated models of the Hugging Face hub",
    "WANDB_API_KEY": "Weights & Biases",
    "REDIS_PASSWORD": "a Redis server of your own",
}


def redis_server() -> Finding:
    """Check that the embedded Redis server starts and answers, on a socket file of its own; stopped
    at once."""
    advice = f"{MEND}; or use a server of yours: reward.cache.url=redis://..."
    try:
        binary = redis_binary()
    except InfraError as error:
        return Finding("redis server", "fail", str(error), advice)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        command = [binary, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        try:
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError as error:
            return Finding("redis server", "fail", f"does not start: {error}", advice)
        try:
            started = time.monotonic()
            answer = ask_redis(path, server)
        finally:
            server.kill()
            server.wait()
    if answer != b"+PONG":
        return Finding("redis server", "fail", f"started, but answered {answer!r} to PING", advice)
    taken = (time.monotonic() - started) * 1000
    found = ".".join(map(str, redis_version(binary)))
    return Finding("redis server", "ok", f"{found} ({binary}) answers after {taken:.0f} ms")


def ask_redis(path: str, server: subprocess.Popen[bytes]) -> bytes:
    """Send PING over the socket file as soon as it is there; b"" when the server ended or the time
    is up."""
    deadline = time.monotonic() + REDIS_TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(REDIS_TIMEOUT_S)
            try:
                line.connect(path)
                line.sendall(b"PING\r\n")
                return line.recv(64).strip()
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.005)  # the server has no other sign of being ready than its socket
            except OSError:
                break
    return b""


def is_set(name: str) -> bool:
    """Say whether the environment holds a secret, or the path of a file with it."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def keys() -> Finding:
    """Say which API keys are set."""
    said = [
        f"{name} {'present' if is_set(name) else 'absent'} ({use})" for name, use in KEYS.items()
    ]
    return Finding("keys", "ok", "; ".join(said) + ". None is needed for the demo")


def checks() -> list[Callable[[], Finding | list[Finding]]]:
    """Return every check, in the order of the report; they run side by side."""
    packages = [lambda name=name, code=code: package(name, code) for name, code in IMPORTS.items()]
    return [python, machine, torch_and_gpu, *packages, media, redis_server, auto_gptq, keys]


def run(as_json: bool = False) -> int:
    """Print the report (JSON: {"ok", "checks": [{name, status, found, advice}]}); 1 when a check
    failed, else 0.
    """
    jobs = checks()
    # Two at a time: imports are bound by processor and disk.
    with ThreadPoolExecutor(max_workers=2) as pool, progress("checks", tenths=False) as advance:
        futures = [pool.submit(job) for job in jobs]
        try:
            for done, _ in enumerate(as_completed(futures), 1):
                advance(done, len(jobs))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    results = [future.result() for future in futures]
    findings = [
        one for result in results for one in (result if isinstance(result, list) else [result])
    ]
    failed = sum(one.status == "fail" for one in findings)
    if as_json:
        print(
            json.dumps(
                {"ok": not failed, "checks": [asdict(one) for one in findings]}, ensure_ascii=False
            )
        )
        return int(failed > 0)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for one in findings:
        style = {"ok": "green", "note": "yellow", "fail": "bold red"}[one.status]
        console.print(
            f"{one.status:4}  {one.name:13} {one.found}",
            style=style if one.status != "ok" else None,
        )
        if one.advice:
            console.print(f"{'':19} -> {one.advice}")
    console.print(
        f"{failed} of {len(findings)} checks failed" if failed else "nothing is in the way"
    )
    return int(failed > 0)
