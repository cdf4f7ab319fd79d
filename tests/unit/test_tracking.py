"""A disk that is full under TensorBoard's files costs the curves there, not the run."""

import subprocess
import sys

FULL = """
import resource, sys, time
from pathlib import Path
from geoagent_rl.config import Config
from cluster.tracking import Tracking
tracking = Tracking(Config(), Path(sys.argv[1]), "run")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
end = time.monotonic() + 20
while tracking.writer is not None and time.monotonic() < end:
    tracking.plot(1, {f"m{i}": 0.0 for i in range(2000)})
assert tracking.writer is None
tracking.plot(2, {"m": 1.0})
tracking.close()
"""


def test_a_full_disk_is_said_and_survived(tmp_path):
    """The limit on the size of a file stands in for the disk: real, and any user may set it."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no more curves for TensorBoard" in done.stderr
