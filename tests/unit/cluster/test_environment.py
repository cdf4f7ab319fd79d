"""Environment variables with which no run can start are named in one line, at once."""

import os
import socket
import subprocess
import sys
import time

import pytest

from cluster.environment import check_environment
from geoagent_rl.config import load
from geoagent_rl.network import free_port, listen
from geoagent_rl.types import UserError
from tests.support.paths import ROOT
from tests.support.program import environment

CPU = load(None, ["data.manifest=x"])
GPU = load(None, ["data.manifest=x", "rollout.gpus_per_engine=1"])
VARIABLES = (
    "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_JOB_ID", "TMPDIR", "RAY_TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
    "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy",
    "NO_PROXY",
)  # fmt: skip


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a check sets is undone
        monkeypatch.delenv(name)


def refused(monkeypatch, name, value, says, config=CPU):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name}=.*{says}") as caught:
        check_environment(config)
    assert "\n" not in str(caught.value)
    monkeypatch.delenv(name)


def test_a_bare_environment_is_sound(monkeypatch, tmp_path):
    check_environment(CPU)
    check_environment(GPU)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    check_environment(CPU)  # hidden GPUs are no fault of a run that asks for none


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_temporary_directories(monkeypatch, tmp_path, name):
    refused(monkeypatch, name, str(tmp_path / "absent"), "no directory")
    file = tmp_path / "file"
    file.touch()
    refused(monkeypatch, name, str(file), "no directory")
    long = tmp_path / ("x" * 60)
    long.mkdir()
    refused(monkeypatch, name, str(long), "too long.*RAY_TMPDIR=/tmp")
    if name == "TMPDIR":  # only Ray minds
        monkeypatch.setenv("TMPDIR", str(long))
        monkeypatch.setenv("RAY_TMPDIR", "/tmp")
        check_environment(CPU)


def test_a_cluster_that_is_not_there(monkeypatch):
    began = time.monotonic()
    refused(monkeypatch, "RAY_ADDRESS", f"127.0.0.1:{free_port()}", "nothing listens there")
    refused(monkeypatch, "RAY_ADDRESS", "http://127.0.0.1:8265", "not HOST:PORT.*submit")
    refused(monkeypatch, "RAY_ADDRESS", "head", "not HOST:PORT")
    assert time.monotonic() - began < 20
    there = listen("127.0.0.1", 0)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{there.getsockname()[1]}")
    check_environment(CPU)
    there.close()


def test_a_submitted_job_knows_its_cluster(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("RAY_JOB_ID", "01000000")
    check_environment(CPU)


def test_no_run_starts_a_ray_that_is_open_to_everybody(monkeypatch):
    refused(monkeypatch, "RAY_AUTH_MODE", "disabled", " the Ray of a run listens")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with listen("127.0.0.1", 0) as there:  # a cluster of others is theirs to guard
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{there.getsockname()[1]}")
        check_environment(CPU)


def test_gpus_and_threads(monkeypatch):
    for hidden in ("", "-1", "none"):
        refused(monkeypatch, "CUDA_VISIBLE_DEVICES", hidden, "hides every GPU", GPU)
    for twice in ("0,0", "0,", "GPU-a,GPU-a"):
        refused(monkeypatch, "CUDA_VISIBLE_DEVICES", twice, "twice", GPU)
    for value in ("0", "-2", "two", "1.5"):
        refused(monkeypatch, "OMP_NUM_THREADS", value, "no number above 0")


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "intra.example,localhost")
    check_environment(CPU)
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"]
    assert set(os.environ["no_proxy"].split(",")) == {
        "intra.example", "localhost", "127.0.0.1", "::1",
    }  # fmt: skip


def test_the_commands_say_it_before_anything_else():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and does not listen
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        words = ["train", "--config", "configs/local.yaml"]
        command = [sys.executable, "-c", "from cluster.cli.main import main; main()", *words]
        env = environment(RAY_ADDRESS=address)
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=50
        )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: RAY_ADDRESS={address}: nothing listens there")
