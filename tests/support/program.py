"""`geoagent-rl` as a user starts it, in a process of its own, at the repository's root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

PROGRAM = str(Path(sys.executable).with_name("geoagent-rl"))


def environment(**variables: str) -> dict[str, str]:
    """Return this process's, without what was settled for its own Ray, and the variables."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return mine | variables


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command, its output in pipes. options: Popen's, instead of these."""
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    command = [PROGRAM, *map(str, words)]
    return subprocess.Popen(command, **usual | {"env": environment()} | options)


def run(*words: object, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; raises subprocess.TimeoutExpired after `timeout` seconds."""
    command = [PROGRAM, *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=timeout
    )
