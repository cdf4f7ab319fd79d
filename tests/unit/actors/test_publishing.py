"""What a learner publishes, and how it reaches the workers of a node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors import node_files
from actors.node_files import files_here
from actors.publishing import published
from geoagent_rl.config import Config
from geoagent_rl.policy.digest import read_weights, weights_digest
from geoagent_rl.policy.model import everything_here, load_adapter, load_policy
from tests.support import tiny_random
from tests.support.paths import ROOT

UNSHARDED = SimpleNamespace(gather=everything_here)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("swap", ["adapter", "merged"])
def test_a_publication_says_the_digest_of_its_files(swap, dtype, tmp_path):
    """Else every engine would refuse every version."""
    config, model = Config(), tiny_random.build(tmp_path / "model", hidden=64)
    config.rollout.swap = swap
    policy, other = (load_policy(model, dtype, lora=(4, 8), seed=seed) for seed in range(2))
    files, digest = published(policy, UNSHARDED, config, write=True)
    with files_here(files) as folder:
        tensors = read_weights(folder)
        assert weights_digest(tensors) == digest
        load_adapter(other, str(folder))
    kinds = {str(t.dtype).removeprefix("torch.") for t in tensors.values()}
    assert kinds == {"float32" if swap == "merged" else dtype}
    assert published(other, UNSHARDED, config, write=True)[1] == digest
    assert published(policy, UNSHARDED, config, write=False) == ({}, "")


KILLED = """
import os, pathlib, sys
from actors import node_files
node_files.SHARED_MEMORY = pathlib.Path(sys.argv[1])
with node_files.files_here({"a": b"1234"}) as folder:
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(node_files, "SHARED_MEMORY", tmp_path)
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60)
    left = Path(done.stdout.strip())
    assert left.parent == tmp_path and left.exists()
    monkeypatch.setattr(node_files, "FRESH_S", -1.0)
    with files_here({"a": b"1234"}) as mine, files_here({"b": memoryview(b"56")}) as other:
        assert not left.exists()
        assert (mine / "a").read_bytes() == b"1234" and (other / "b").read_bytes() == b"56"
    assert list(tmp_path.iterdir()) == []


def test_where_shared_memory_is_short_they_lie_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(node_files, "SHARED_MEMORY", tmp_path)
    usage = SimpleNamespace(free=7)
    monkeypatch.setattr(node_files.shutil, "disk_usage", lambda path: usage)
    with files_here({"a": b"1234"}) as folder:
        assert folder.parent != tmp_path
