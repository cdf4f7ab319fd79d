"""Hub models arrive before anything that has a time limit needs them, once, with progress."""

import json
import subprocess
import sys

import pytest

from cluster.prefetch import hub_models
from geoagent_rl.config import load
from tests.support.hub_server import hub_server
from tests.support.program import environment

REPO = "someone/vlm"
DOWNLOAD = """
import json, sys
from geoagent_rl.policy.download import download
from geoagent_rl.types import UserError
try:
    print(json.dumps(list(download(sys.argv[1]))))
except UserError as error:
    print(f"error: {error}")
"""
WANTED = {"config.json": b"{}", "model-00001.safetensors": b"w" * 3000, "tokenizer.json": b"[]"}
UNWANTED = {"pytorch_model.bin": b"p" * 9000, "model.gguf": b"g" * 9000, "onnx/model.onnx": b"o"}


def downloaded(hub, home, repo=REPO, **variables):
    place = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    env = environment(**{"HF_HUB_OFFLINE": "0"} | place | variables)
    command = [sys.executable, "-c", DOWNLOAD, repo]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_what_is_loaded_is_downloaded_once_and_nothing_else(tmp_path):
    with hub_server() as hub:
        hub.files = {(REPO, name): data for name, data in (WANTED | UNWANTED).items()}
        total = sum(map(len, WANTED.values()))
        assert json.loads(downloaded(hub, tmp_path))[-1] == [total, total]
        (snapshot,) = (tmp_path / "hub" / "models--someone--vlm" / "snapshots").iterdir()
        found = {p.name: p.read_bytes() for p in snapshot.rglob("*") if p.is_file()}
        assert found == WANTED
        asked = len(hub.given)
        assert json.loads(downloaded(hub, tmp_path))[-1] == [total, total]
        assert not [path for path in hub.given[asked:] if path.endswith("safetensors")]


def test_pickled_weights_are_taken_where_there_are_no_others(tmp_path):
    with hub_server() as hub:
        hub.files = {(REPO, name): b"x" for name in ("config.json", "pytorch_model.bin")}
        downloaded(hub, tmp_path)
    assert list(tmp_path.rglob("pytorch_model.bin"))


def test_what_cannot_be_had_is_one_line(tmp_path):
    with hub_server() as hub:
        said = downloaded(hub, tmp_path, "someone/else")
        assert said.startswith("error: someone/else cannot be downloaded: ")
        assert downloaded(hub, tmp_path, HF_HUB_OFFLINE="1") == "[]"
        assert not hub.given


@pytest.mark.parametrize("on_gpus", [0, 1])
def test_only_what_the_hub_has_is_asked_of_it(tmp_path, on_gpus):
    words = ["data.manifest=x", "policy.model=Qwen/a", "judge.model=Qwen/b", "rollout.memory=0.5"]
    words += [f"learner.gpus_per_rank={on_gpus}", f"judge.gpus_per_replica={on_gpus}"]
    config = load(None, words)
    assert hub_models(config) == {"Qwen/a": bool(on_gpus), "Qwen/b": bool(on_gpus)}
    assert hub_models(config, only_learner=True) == {"Qwen/a": bool(on_gpus)}
    local = load(None, [*words, f"policy.model={tmp_path}", "judge.model=tiny"])
    assert hub_models(local) == {}
