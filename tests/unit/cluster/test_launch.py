"""How much room a run's own Ray has for what is published, and what a run says of a Ray that is not
there. No Ray is running here."""

from types import SimpleNamespace

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


def test_nothing_is_started_where_rays_part_of_the_node_is_dead(monkeypatch):
    nodes = [{"NodeID": "a", "Alive": True}, {"NodeID": "b", "Alive": False}]
    monkeypatch.setattr(launch.ray, "nodes", lambda: nodes)
    here = SimpleNamespace(get_node_id=lambda: "a")
    monkeypatch.setattr(launch.ray, "get_runtime_context", lambda: here)
    launch.check_own_node()
    here.get_node_id = lambda: "b"
    with pytest.raises(InfraError, match="Ray on the driver's node is dead.*--resume"):
        launch.check_own_node()


def test_a_model_of_unknown_size_takes_no_room():
    words = ["policy.architecture=my-own"]
    assert launch.version_bytes(load(CONFIGS / "paper.yaml", words)) == 0
