"""How much room a run's own Ray has for what is published. No Ray is running here."""

import pytest

from cluster import launch
from geoagent_rl.config import load
from tests.support.paths import CONFIGS

GB = 10**9


@pytest.mark.parametrize("swap", ["adapter", "merged"])
def test_a_version_is_an_adapter_however_it_is_taken(swap):
    words = [f"rollout.swap={swap}"]
    assert 0.6 * GB < launch.version_bytes(load(CONFIGS / "paper.yaml", words)) < 0.7 * GB


def test_a_model_of_unknown_size_takes_no_room():
    words = ["policy.architecture=my-own"]
    assert launch.version_bytes(load(CONFIGS / "paper.yaml", words)) == 0
