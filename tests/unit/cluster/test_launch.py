"""Where policy versions are published. No Ray is running here."""

import contextlib
import shutil
from collections import namedtuple

import pytest

from cluster import launch
from geoagent_rl.config import load
from tests.support.paths import CONFIGS

Usage = namedtuple("Usage", "total used free")
GB = 10**9


@pytest.mark.parametrize(
    ("nodes", "free", "config", "overrides", "shared"),
    [
        (1, 24 * GB, "local", (), True),
        (
            1,
            64 * 2**20,
            "paper",
            (),
            False,
        ),  # what a container has by default; an adapter of the 7B has 0.65 GB
        (1, 32 * GB, "paper", (), True),
        (
            1,
            32 * GB,
            "paper",
            ("rollout.swap=merged",),
            False,
        ),  # three versions of 16.6 GB, and Ray's objects
        (1, 200 * GB, "paper", ("rollout.swap=merged",), True),
        (2, 200 * GB, "paper", (), False),  # the other node does not see it
        (1, 200 * GB, "paper", ("policy.architecture=my-own",), False),  # nobody knows how large
    ],
)
def test_shared_memory_is_used_where_it_has_room(
    nodes, free, config, overrides, shared, monkeypatch, tmp_path
):
    monkeypatch.setattr(launch.ray, "nodes", lambda: [{}] * nodes)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2 * free, free, free))
    found = launch.weights_root(load(CONFIGS / f"{config}.yaml", overrides), tmp_path)
    assert found == (launch.SHARED_MEMORY if shared else tmp_path)


async def test_nodes_that_come_while_the_run_waits_for_them_count(monkeypatch, tmp_path):
    """On a cluster that grows, the head is alone until placement asks for more
    (placement.wait_s).
    """
    nodes = [{}]

    class Place:
        def release(self):
            pass

    async def reserve(config, run_id, only_learner):
        nodes.append({})
        return Place()

    monkeypatch.setattr(launch, "connect", lambda: None)
    monkeypatch.setattr(launch, "reserve", reserve)
    monkeypatch.setattr(launch, "warn_of_lonely_cache", lambda config: None)
    monkeypatch.setattr(launch, "on_a_cluster", lambda: True)
    monkeypatch.setattr(launch, "janitor", lambda run_id, weights: contextlib.nullcontext())
    monkeypatch.setattr(launch.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(launch.ray, "shutdown", lambda: None)
    async with launch.session(load(CONFIGS / "local.yaml"), tmp_path) as s:
        assert s.weights_dir.parent == tmp_path
