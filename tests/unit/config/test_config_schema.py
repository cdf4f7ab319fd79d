"""`geoagent-rl config schema` says to an editor what `load` says to a run."""

import json
import sys

import jsonschema
import pytest
import yaml

from cluster.cli import main as cli
from geoagent_rl.config import json_schema, load, to_yaml


@pytest.fixture
def problems(monkeypatch, capsys):
    """What the printed schema finds wrong with a YAML text."""
    monkeypatch.setattr(sys, "argv", ["geoagent-rl", "config", "schema"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    return lambda text: list(validator.iter_errors(yaml.safe_load(text)))


def test_every_shipped_configuration_is_valid(problems, pytestconfig):
    found = sorted((pytestconfig.rootpath / "configs").rglob("*.yaml"))
    files = [file for file in found if file.parent.name != "ablations"]  # rows of a table
    assert len(files) >= 4
    for file in files:
        assert problems(file.read_text()) == []


def test_what_a_run_writes_is_valid(problems):
    assert problems(to_yaml(load(None, ["data.manifest=x", "reward.custom.a.function=m:f"]))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "stepps: 1",
        "learner: {learning_rate: 1}",
        "reward: {custom: {mine: {function: 'm:f', wieght: 1}}}",
        "reward: {geocoder: {photon: {rate_per_s: -1}}}",
        "learner: {lr: .nan}",
        "learner: {kl_beta: .nan}",
        "learner: {kl_beta: .inf}",
        "learner: {lr: nan}",
        "learner: {betas: [0.9, .nan]}",
        "learner: {betas: [0.9]}",
        "rollout: {swap: magic}",
        "learner: {zero_stage: 4}",
        "steps: many",
        "steps: 0",
        "run: 3",
    ],
)
def test_what_a_run_refuses_is_invalid(problems, wrong):
    assert problems(wrong)


@pytest.mark.parametrize("right", ["learner: {lr: 1}", "reward: {weights: {spatial: 1.0e+30}}"])
def test_whole_and_large_numbers_are_numbers(problems, right):
    assert problems(right) == []


def test_sections_stand_in_it_in_full():
    assert "$ref" not in json.dumps(json_schema())
