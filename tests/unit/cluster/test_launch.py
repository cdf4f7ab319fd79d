"""How much room a run's own Ray has for what is published. No Ray is running here."""

import pytest

from cluster import launch
from geoagent_rl.config import load
from geoagent_rl.types import InfraError
from tests.support.paths import CONFIGS

GB = 10**9


@pytest.mark.parametrize("swap", ["adapter", "merged"])
def test_a_version_is_an_adapter_however_it_is_taken(swap):
    words = [f"rollout.swap={swap}"]
    assert 0.6 * GB < launch.version_bytes(load(CONFIGS / "paper.yaml", words)) < 0.7 * GB


@pytest.mark.parametrize(
    ("address", "says"), [("", "Ray did not start on this"), ("h:1", "cluster cannot be joined")]
)
def test_a_ray_that_does_not_come_up_is_one_line(monkeypatch, address, says):
    def init(**_):
        raise RuntimeError("Failed to start GCS.\n  Last 0 lines of error files")

    monkeypatch.setattr(launch.ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InfraError, match=f"{says}.*Failed to start GCS. Last 0") as caught:
        launch.connect(load(CONFIGS / "paper.yaml"))
    assert "\n" not in str(caught.value)


def test_a_model_of_unknown_size_takes_no_room():
    words = ["policy.architecture=my-own"]
    assert launch.version_bytes(load(CONFIGS / "paper.yaml", words)) == 0
