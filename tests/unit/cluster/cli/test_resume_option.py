"""`train --resume` alone, with =auto, and anything else."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cluster.cli import main
from geoagent_rl import config as configuration
from geoagent_rl.run.directory import RunDir
from geoagent_rl.types import UserError


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Runs the command in tmp_path; returns (steps of the configuration, resume, accept)."""
    asked = []

    def note(config, resume, accept):
        asked.append((config.steps, resume, accept))

    monkeypatch.setitem(sys.modules, "cluster.jobs.train", SimpleNamespace(run_train_job=note))
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/local.yaml").write_text("data: {manifest: scenes}\nsteps: 5\n")

    def run(*words):
        done = CliRunner().invoke(main.app, ["train", *words])
        if done.exception:
            raise done.exception
        return asked.pop()

    return run


def begun(steps):
    RunDir("run").begin(
        configuration.load(None, ["data.manifest=scenes", f"steps={steps}", "run.dir=run"])
    )


def test_a_start_of_a_run_there_is_not(started):
    assert started("run.dir=run") == (5, False, False)
    assert started("--resume=auto", "run.dir=run", "steps=6") == (6, False, False)
    with pytest.raises(UserError, match="nothing to resume"):
        started("--resume", "run.dir=run")
    with pytest.raises(UserError, match="needs a run.dir"):
        started("--resume=auto")


@pytest.mark.parametrize("option", ["--resume", "--resume=auto"])
def test_a_run_goes_on_with_its_own_configuration_and_the_overrides(started, option):
    begun(steps=8)
    assert started(option, "run.dir=run") == (8, True, False)
    assert started("run.dir=run", option, "--accept-changes", "steps=9") == (9, True, True)
    assert started(option, "run.dir=run", "--config", "configs/local.yaml") == (5, True, False)


def test_any_other_word_is_refused(started):
    with pytest.raises(UserError, match="--resume=always: write"):
        started("--resume=always", "run.dir=run")
