"""A hub model is downloaded on the nodes of a real Ray, with what the hub says in one line."""

import subprocess
import sys

import pytest

from tests.support.hub_server import hub_server
from tests.support.paths import ROOT
from tests.support.program import environment

PREFETCH = """
import asyncio
from pathlib import Path
from cluster.launch import connect  # first: it gives Ray its token
import ray
from cluster.prefetch import prefetch
from geoagent_rl.config import load
from geoagent_rl.types import UserError

connect(load(Path("configs/local.yaml")))
asyncio.run(prefetch({"someone/vlm": False}))
try:
    asyncio.run(prefetch({"someone/absent": False}))
except UserError as error:
    print(error)
ray.shutdown()
"""


@pytest.mark.timeout(150)
def test_every_node_gets_what_it_loads(tmp_path):
    with hub_server() as hub:
        hub.files = {
            ("someone/vlm", "config.json"): b"{}",
            ("someone/vlm", "a.bin"): bytes(3 << 20),
        }
        place = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        env = environment(HF_HUB_OFFLINE="0", **place)
        command = [sys.executable, "-c", PREFETCH]
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=140
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "hub" / "models--someone--vlm" / "snapshots").is_dir()
    assert "downloading someone/vlm (MiB on all nodes): 3/3" in done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("someone/absent cannot be downloaded: ")
