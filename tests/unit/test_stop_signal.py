"""`ray job stop` sends SIGTERM: the run is cancelled once and finishes its saving, whatever
ray.init does.
"""

import os
import subprocess
import sys

import pytest

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
    launch.connect()
    asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), getattr(signal, sys.argv[1]))
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        await uninterrupted(save())
        raise

launch.ray.init = init
launch.run_until_done(work())
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_leaves_time_to_save(name):
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, timeout=28, env=env
    )
    assert (done.returncode, done.stdout) == (130, "saved\n"), done.stderr[-2000:]
