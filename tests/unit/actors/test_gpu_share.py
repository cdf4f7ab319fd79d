"""Zero GPUs are none, and shares of one are used in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading

import pytest

from actors.gpu_share import VISIBLE, hide_others, turn
from actors.vllm_engine import set_environment
from tests.support.paths import ROOT


def test_a_process_without_gpus_sees_none(monkeypatch):
    monkeypatch.setenv(VISIBLE, "0,1")
    hide_others(0.2)
    assert os.environ[VISIBLE] == "0,1"
    hide_others(0)
    assert os.environ[VISIBLE] == ""


def test_an_engine_with_shares_of_several_gpus_sees_all_of_them(monkeypatch):
    monkeypatch.setenv(VISIBLE, "4")
    hide_others(0.4, ["5", "7"])
    assert os.environ[VISIBLE] == "4,5,7"


HOLD = """
import sys
from actors.gpu_share import turn
with turn(float(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("gpus", "seen", "waits"),
    [(0.4, "3", True), (0.4, "2,3", True), (0.4, "2", False), (1.0, "3", False), (0.0, "3", False)],
)
def test_shares_of_one_gpu_are_used_in_turn(gpus, seen, waits, monkeypatch, tmp_path):
    monkeypatch.setenv(VISIBLE, seen)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment[VISIBLE] = "3"
    command = [sys.executable, "-c", HOLD, str(gpus)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        mine = threading.Event()

        def take() -> None:
            with turn(gpus):
                mine.set()

        thread = threading.Thread(target=take)
        thread.start()
        assert mine.wait(1.0 if waits else 20) == (not waits)
        other.kill()  # as an engine dies
        assert mine.wait(20)
        thread.join(20)


def test_flashinfers_sampler_is_off_unless_it_is_asked_for(monkeypatch):
    monkeypatch.delenv("VLLM_USE_FLASHINFER_SAMPLER", raising=False)
    for name in ("VLLM_NO_USAGE_STATS", "GEOAGENT_ENGINE_CHILD", "VLLM_CONFIGURE_LOGGING"):
        monkeypatch.setenv(name, "1")
    set_environment(cpu=False)
    assert os.environ["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    monkeypatch.setenv("VLLM_USE_FLASHINFER_SAMPLER", "1")
    set_environment(cpu=False)
    assert os.environ["VLLM_USE_FLASHINFER_SAMPLER"] == "1"
