"""One Ray session for all stack tests that need one; a Redis server for a test or a module."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from actors.redis_server import EmbeddedRedis, new_password
from geoagent_rl.network import free_port


def embedded_redis(directory):
    server = EmbeddedRedis(directory, free_port(), new_password())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(tmp_path):
    """A Redis server of the test's own, which it may kill."""
    yield from embedded_redis(tmp_path / "cache")


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """A Redis server that the tests of a module share."""
    yield from embedded_redis(tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="session")
def ray_local():
    """A local Ray with 8 declared CPUs and its own temporary directory; the module `ray`,
    initialised.

    The directory lies outside pytest's own: Ray's socket paths must stay short.
    """
    import ray

    folder = Path(tempfile.mkdtemp(prefix="ga-ray-"))
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=150 * 2**20,
        _temp_dir=str(folder),
        ignore_reinit_error=False,
    )
    yield ray
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
