"""One Ray session for all stack tests that need one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_local():
    """A local Ray with 8 declared CPUs and its own temporary directory; the module `ray`, initialised.

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
