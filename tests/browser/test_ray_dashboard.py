"""The Ray dashboard shows the monitor's curves, and Ray exports a run's metrics: a real head and a
real browser.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from geoagent_rl.network import free_port
from tests.support.monitor_runs import new_run, record
from tests.support.monitor_runs import photograph as picture_of_a_street

START_S, STOP_S = 120.0, 20.0
# ports that another Ray on this machine has by default
NEEDED = ("port", "dashboard-port", "metrics-export-port", "dashboard-agent-listen-port")
DRIVER = """
import sys, ray
from pathlib import Path
from cluster.jobs.metric_sinks import Tracking
from geoagent_rl.config import Config
ray.init(address=sys.argv[1], log_to_driver=False)
tracking = Tracking(Config(), Path(sys.argv[2]), "id")
tracking.write(7, {"reward_total_mean": 1.25, "kl": float("nan")})
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory, real_run) -> Path:
    """The run whose curves are shown: of 60 steps, as the demo's."""
    if real_run:
        return real_run
    folder = tmp_path_factory.mktemp("dashboard")
    made = new_run(folder, "on-the-cluster")
    record(made, picture_of_a_street(folder / "photos"), range(1, 61), words="Alps")
    return made.path


@pytest.fixture(scope="module")
def head(monitor, watched):
    """{address, dashboard, metrics} of a Ray head that takes the monitor for its Grafana and
    Prometheus.
    """
    watching = monitor(str(watched), "--port", "0")
    ports = {name: free_port() for name in NEEDED}
    temp = tempfile.mkdtemp(prefix="ga-head-")  # short: Ray's socket paths lie below it
    env = {
        **os.environ,
        "RAY_GRAFANA_HOST": watching,
        "RAY_PROMETHEUS_HOST": watching,
    }
    env["RAY_GRAFANA_IFRAME_HOST"] = watching.replace(
        "127.0.0.1", "localhost"
    )  # another site: a frame of its own
    env["RAY_metrics_report_interval_ms"] = "500"
    words = [f"--{name}={port}" for name, port in ports.items()]
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=true"]
    command += [
        "--dashboard-host=127.0.0.1",
        f"--temp-dir={temp}",
        "--object-store-memory=80000000",
        *words,
    ]
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    try:
        until(lambda: got(f"{address['dashboard-port']}/api/grafana_health"), START_S)
        yield {"address": f"127.0.0.1:{ports['port']}", **address}
    finally:
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        psutil.wait_procs(
            [psutil.Process(process.pid), *below] if process.poll() is None else below, STOP_S
        )
        shutil.rmtree(temp)


def got(url: str) -> str:
    token = {"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=token), timeout=5
        ) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def until(found, seconds: float):
    stop = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < stop, f"nothing in {seconds} s"
        time.sleep(0.2)
    return value


@pytest.mark.timeout(240)
def test_the_curves_are_in_the_metrics_tab_and_in_the_overview(page, head, watched, photograph):
    dashboard = head["dashboard-port"]
    cookie = {"name": "ray-authentication-token", "value": os.environ["RAY_AUTH_TOKEN"]}
    page.context.add_cookies([cookie | {"url": dashboard}])  # as its login page does
    page.goto(f"{dashboard}/#/metrics")
    framed = page.frame_locator("iframe[src*='/d/rayDefaultDashboard/']").first
    drawn = "figure:not([hidden])[data-lines]"
    expect(framed.locator(drawn).first).to_be_attached(timeout=90_000)
    expect(framed.locator("main")).to_contain_text(f"{watched.name}, step 60")
    photograph(page, "ray-dashboard.png")
    page.goto(f"{dashboard}/#/overview")
    for panel in ("panelId=41", "panelId=24"):
        framed = page.frame_locator(f"iframe[src*='{panel}']").first
        expect(framed.locator(drawn).first).to_be_attached(timeout=90_000)
    photograph(page, "ray-overview.png")


@pytest.mark.timeout(240)
def test_ray_exports_the_metrics_of_a_run(head, tmp_path):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, head["address"], str(tmp_path / "a-run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert driver.stdout.readline() == "written\n"
        exported = lambda: [  # noqa: E731
            line
            for line in got(f"{head['metrics-export-port']}/metrics").splitlines()
            if "ray_geoagent_" in line
        ]
        until(exported, 60)
        assert any(
            line.startswith("ray_geoagent_reward_total_mean{") and 'run="a-run"' in line
            for line in exported()
        )
        assert any(
            line.startswith("# HELP ray_geoagent_reward_total_mean mean weighted total")
            for line in exported()
        )
        assert not any(
            "geoagent_kl" in line for line in exported()
        )  # not a number: nothing to export
    finally:
        driver.stdin.close()
        driver.wait(STOP_S)
