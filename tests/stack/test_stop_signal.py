"""What is stopped ends in order and with exit code 130, by SIGINT or SIGTERM, also where the shell
that started it ignores SIGINT (nohup, a job in the background).

`ray job stop` sends SIGTERM: the run is cancelled once and finishes its saving, whatever ray.init
does."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support import tiny_random
from tests.support.program import PROGRAM

SCRIPT = """
import asyncio, os, signal, sys
import cluster.launch as launch
from geoagent_rl.driver import uninterrupted

def init(**kwargs):  # as Ray's does
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))

async def save():
    await asyncio.sleep(0.2)
    print("saved")

async def work():
    launch.connect(launch.Config())
    for i in range(int(sys.argv[2])):
        number = getattr(signal, sys.argv[1])
        asyncio.get_running_loop().call_later(0.2 + i / 50, os.kill, os.getpid(), number)
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        await uninterrupted(save())
        raise

launch.ray.init = init
launch.run_until_done(work())
"""


IGNORING = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]  # the start of a command


@pytest.mark.parametrize(
    ("name", "shell", "times"),
    [("SIGTERM", [], 1), ("SIGINT", IGNORING, 1), ("SIGHUP", [], 1), ("SIGTERM", [], 3)],
)
def test_a_signal_leaves_time_to_save_however_often_it_comes(name, shell, times):
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [*shell, sys.executable, "-c", SCRIPT, name, str(times)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=80, env=env)
    assert (done.returncode, done.stdout) == (130, "saved\n"), done.stderr[-2000:]


SERVERS = {"monitor": ["monitor", "."], "model": ["serve-model", "--model", "policy"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    tiny_random.build(folder / "policy")
    return folder


@pytest.mark.parametrize(
    ("server", "number", "shell"),
    [
        ("monitor", signal.SIGTERM, []),
        ("monitor", signal.SIGHUP, []),
        ("monitor", signal.SIGINT, []),
        ("monitor", signal.SIGINT, IGNORING),
        ("model", signal.SIGINT, IGNORING),
    ],
)
def test_a_stopped_server_exits_with_130(server, number, shell, folder):
    command = [*shell, PROGRAM, *SERVERS[server], "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, **pipes) as process:
        try:
            url = process.stdout.readline().split()[0]
            urllib.request.urlopen(url, timeout=30).close()  # it serves
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    lines = [line for line in errors.splitlines() if not line.startswith("loading policy")]
    assert (process.returncode, lines) == (130, [])
