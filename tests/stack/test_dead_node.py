"""What a run does when Ray's part of its node dies under it, as of a full /dev/shm."""

import os
import subprocess
import sys

from tests.support.paths import ROOT

NOTICED = {  # a death after a second instead of 15
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "2",
}
RUN = """
import sys, time
import psutil, ray
from ray import serve
from actors import serving
from cluster.launch import check_own_node, leave
from geoagent_rl.terminal import leave_with
from geoagent_rl.types import InfraError

class Nothing:
    pass

ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[1])
serve.start(http_options={"location": "NoServer"})
serve.run(serve.deployment(Nothing).bind(), name="run-nothing", route_prefix=None)
check_own_node()
family = psutil.Process().children(recursive=True)
(raylet,) = [p for p in family if p.name() == "raylet"]
raylet.kill()
serving.stop_applications("run")  # before Ray has noticed
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        check_own_node()
    except InfraError as error:
        print(error)
        break
    time.sleep(0.1)
serving.stop_applications("run")  # and after
leave()
for process in family:  # Ray's agents stay for a while
    if process.is_running():
        process.kill()
leave_with("the end")
"""


def test_a_run_that_has_lost_its_ray_starts_nothing_and_waits_for_nothing(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp().parent / "d"  # Ray's socket paths must stay short
    command = [sys.executable, "-c", RUN, str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=150,
        cwd=ROOT,
        env={**os.environ, **NOTICED},
    )
    assert done.returncode == 1, done.stderr  # no crash: it ends as a run with an error does
    assert "Ray on the driver's node is dead" in done.stdout
    assert done.stderr.endswith("the end\n")
