"""`make setup EXTRA=gpu` can be resolved: pip finds one set of versions, and all are pinned.

Reads metadata only (pip's fast-deps: a few MB of the gigabytes), and installs nothing. Needs the
public index, without this machine's own pip settings, which may offer torch's CPU build only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


PIP = [sys.executable, "-m", "pip", "--isolated", "--no-input", "--disable-pip-version-check"]


@pytest.fixture
def index() -> None:
    asked = [*PIP, "--retries", "0", "--timeout", "10", "index", "versions", "pip"]
    if subprocess.run(asked, capture_output=True, timeout=60).returncode:
        pytest.skip("pip reaches no package index from here")


@pytest.mark.timeout(300)
def test_the_cuda_set_resolves_and_every_version_is_pinned(index, tmp_path):
    report = tmp_path / "report.json"
    command = [*PIP, "install", "--dry-run", "--ignore-installed", "--no-cache-dir", "--quiet"]
    command += ["--use-feature=fast-deps", "--prefer-binary"]
    command += ["-c", "constraints-gpu.txt", "--report", str(report), ".[gpu,test]"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    installed = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    chosen = {canonicalize_name(m["name"]): m["version"] for m in installed}
    text = "".join((ROOT / f"constraints{part}.txt").read_text() for part in ("", "-gpu"))
    lines = [line.split("==") for line in text.splitlines() if "==" in line]
    pinned = {canonicalize_name(name): version.split()[0] for name, version in lines}
    del chosen["geoagent-rl"]
    assert {n: v for n, v in chosen.items() if pinned.get(n) != v} == {}
    assert "+cpu" not in chosen["torch"] and "nvidia-cublas" in chosen and "vllm" in chosen
