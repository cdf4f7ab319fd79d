"""`export --push` through the real huggingface_hub to a local server of the hub's API; the card
says what the run recorded and nothing of this machine."""

import json
import subprocess
import sys

import pytest
import yaml

from geoagent_rl.pages.model_card import model_card
from geoagent_rl.policy.model import adapter_state, load_policy, save_adapter
from geoagent_rl.run.directory import RunDir
from tests.support import program, tiny_random
from tests.support.hub_server import TOKEN, hub_server
from tests.support.monitor_runs import new_run

REPO = "someone/geo-tiny"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDir:
    """A run with a checkpoint and evaluations before and after."""
    folder = tmp_path_factory.mktemp("hub")
    run = new_run(folder, steps=3)
    base = tiny_random.build(folder / "base")
    checkpoint = run.path / "checkpoints" / "step-000003"
    policy = load_policy(base, lora=(4, 12))
    save_adapter(policy, adapter_state(policy), checkpoint / "adapter")
    (checkpoint / "state.json").write_text(json.dumps({"base": base, "dtype": "float32"}))
    hits = {"1": 0.0, "25": 0.25, "200": 0.5, "750": 0.75, "2500": 1.0}
    table = {"n": 64, "hit": hits, "geoscore": 3210.4, "geoscore_scale_km": 1805.0}
    intervals = {**{km: [0.2, 0.8] for km in hits}, "geoscore": [3000, 3300]}
    run.record_eval("sft", "eval", table | {"geoscore": 2000.0})
    run.record_eval("grpo", "eval", table | {"intervals": intervals})
    return run


def environment(hub, token, home) -> dict[str, str]:
    place = {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    return program.environment(**place, HF_HUB_DISABLE_XET="1", HF_HOME=str(home))


@pytest.mark.timeout(120)
def test_a_checkpoint_arrives_whole_and_private_with_its_card(run, tmp_path):
    with hub_server() as hub:
        env = environment(hub, TOKEN, tmp_path / "hf")
        process = program.start("export", run.path, tmp_path / "out", "--push", REPO, env=env)
        printed, said = process.communicate(timeout=110)
        assert process.returncode == 0 and printed.strip() == str(tmp_path / "out"), said
        assert f"{hub.address}/{REPO}: private" in said
    assert hub.created[REPO]["visibility"] == "private"
    arrived = {path: data for (repo, path), data in hub.files.items() if repo == REPO}
    assert arrived == {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert "model.safetensors" in arrived and b"| after GRPO | eval | 64 |" in arrived["README.md"]


PUSH = """
import sys
from pathlib import Path
from geoagent_rl.prediction.hub import push
from geoagent_rl.terminal import errors_in_one_line
with errors_in_one_line():
    push(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize(
    ("repo", "said"), [(REPO, "HF_TOKEN"), ("not a/na/me", "--push not a/na/me")]
)
def test_what_the_hub_refuses_is_one_line(repo, said, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("a card")
    with hub_server() as hub:
        env = environment(hub, "hf_other", tmp_path / "hf")
        command = [sys.executable, "-c", PUSH, str(tmp_path / "out"), repo]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and not hub.files
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line and "hf_other" not in line


def test_the_card_says_what_was_recorded_and_nothing_of_this_machine(run):
    card = model_card(run.path / "checkpoints" / "step-000003", REPO)
    head = yaml.safe_load(card.split("---")[1])
    assert head["pipeline_tag"] == "image-text-to-text" and "base_model" not in head
    assert "25.0 % (20..80)" in card and "| 2000 |" in card and "5000 exp(-d / 1805 km)" in card
    assert "steps: 3" in card and "data.manifest: photos" in card
    assert str(run.path.parent) not in card and "Do not use the model to locate" in card


def test_figures_of_another_checkpoint_are_not_claimed(run, tmp_path):
    older = run.path / "checkpoints" / "step-000002"
    older.mkdir()
    (older / "state.json").write_text(json.dumps({"base": "Qwen/Qwen2.5-VL-7B-Instruct"}))
    card = model_card(older, REPO)
    older.joinpath("state.json").unlink()
    older.rmdir()
    assert "Of another checkpoint" in card and "after GRPO" not in card
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "Qwen/Qwen2.5-VL-7B-Instruct"
