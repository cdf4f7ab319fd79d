"""Which configuration a resumed run takes, and what it says of changes."""

import pytest

from geoagent_rl import config as configuration
from geoagent_rl.run.directory import RunDir
from geoagent_rl.run.start import changed_settings, holds_a_run, resumed_config, settings_of
from geoagent_rl.types import UserError


@pytest.fixture
def run(tmp_path):
    config = configuration.load(None, ["data.manifest=x", f"run.dir={tmp_path}/run"])
    return RunDir(config.run.dir).begin(config)


def test_what_a_resumed_run_does_otherwise_is_named(run):
    words = ["data.manifest=x", "steps=7", "run.keep_checkpoints=9", "learner.betas=[0.5,0.9]"]
    config = configuration.load(None, [*words, "run.dir=elsewhere"])
    changed = changed_settings(settings_of(run.path / "config.yaml"), config)
    assert changed == ["learner.betas: [0.9, 0.999] -> [0.5, 0.9]", "steps: 100 -> 7"]


def test_a_key_that_is_newer_than_the_run_is_no_change_at_its_default():
    old = {"data.manifest": "x", "steps": 100}
    config = configuration.load(None, ["data.manifest=x", "learner.kl_beta=0.5"])
    assert changed_settings(old, config) == ["learner.kl_beta: 0.001 -> 0.5"]


@pytest.mark.parametrize("damage", [b"", b"\0" * 400, b"\xff\xfe{", b"steps: [1"])
def test_a_damaged_configuration_names_nothing(run, damage):
    (run.path / "config.yaml").write_bytes(damage)
    config = configuration.load(None, ["data.manifest=x"])
    assert changed_settings(settings_of(run.path / "config.yaml"), config) == []


def test_the_run_of_run_dir_is_found_from_the_storage_root(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (str(run.path), "run", "~/run"):
        found = resumed_config(["steps=1", f"run.dir={folder}"], tmp_path)
        assert found == run.path / "config.yaml"
    for words in (["steps=1"], ["run.dir="], [f"run.dir={tmp_path}/gone"]):
        with pytest.raises(UserError):
            resumed_config(words, tmp_path)


def test_what_holds_a_run(run, tmp_path):
    assert holds_a_run(run.path) and not holds_a_run(tmp_path / "new")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.yaml").write_text("steps: 3\n")
    assert not holds_a_run(mine)
