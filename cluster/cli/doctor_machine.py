"""Python, cores, memory, disk, processor and compiler: checks of `doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

import psutil

from actors.processor import promise, this_processor
from cluster.cli.finding import Finding
from geoagent_rl.plan.memory import GIB

DEMO_MEMORY_GIB = 12  # what the whole demo may need at its peak


def python() -> Finding:
    """Check the version of Python and the platform."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] != (3, 11):
        return Finding(
            "python", "fail", found, "use Python 3.11: make setup PYTHON=/path/to/python3.11"
        )
    return Finding("python", "ok", found)


def machine() -> list[Finding]:
    """Report cores, memory (also as limited by a container), disk, shared memory, processor and
    compiler."""
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
    """Report its model, its instruction sets, and whether a resumed run repeats a whole one
    exactly."""
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
