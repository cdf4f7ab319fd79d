"""The reward services of one run on real processes, and the troubles that the fault matrix brings
them into.

Each `*_trouble` begins a trouble and returns what mends it; what has to happen during a call runs
as a task until then."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import psutil
from redis import Redis

from actors.redis_server import EmbeddedRedis, new_password
from actors.serving import start_services
from geoagent_rl.config import Config
from geoagent_rl.config.reward import CacheConfig, GeocoderConfig, PhotonConfig, RewardConfig
from geoagent_rl.network import free_port
from tests.support import geocoder_server, reward_services
from tests.support.paths import ROOT


class GeocoderProcess:
    """geocoder_server.py as a process of its own, on a port that it keeps over its deaths."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        command = [sys.executable, "-m", geocoder_server.__name__, str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def set_trouble(self, trouble):
        self.process.stdin.write(f"{trouble}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def kill_in_mid_call(self):
        assert self.process.stdout.readline() == "asked\n"
        self.kill()
        self.start()


class Stack:
    """All parts of one run, and the event loop that its clients live in."""

    def __init__(self, folder, group_size):
        self.geocoder = GeocoderProcess()
        self.redis_at = (folder / "redis", free_port(), new_password())
        self.start_redis()
        self.loop = asyncio.new_event_loop()
        photon = PhotonConfig(url=self.geocoder.url, rate_per_s=1000.0)
        reward = RewardConfig(
            geocoder=GeocoderConfig(provider="photon", photon=photon, timeout_s=2.0),
            cache=CacheConfig(url=self.redis.url),
            max_unscorable_share=1.0,
        )
        self.config = Config(steps=2, reward=reward)
        self.config.rollout = dataclasses.replace(
            self.config.rollout, group_size=group_size, prompts_per_step=1
        )
        self.services = self.do(
            start_services(self.config, "faults", folder, reward_services.judge_application())
        )
        clients = self.services.services
        self.handles = {"embedder": clients.geocoder.handle, "judge": clients.judge.handle}

    def do(self, work):
        return self.loop.run_until_complete(work)

    def start_redis(self):
        self.redis = EmbeddedRedis(*self.redis_at)
        self.redis.start()

    def stop(self):
        self.do(self.services.stop())
        self.loop.close()
        self.redis.stop()
        self.geocoder.kill()

    async def counters(self):
        return await self.handles["embedder"].stats.remote()


@asynccontextmanager
async def trouble(stack, part, fault):
    """A part is in trouble until what this yields is awaited (or at the end)."""
    begin = {"geocoder": geocoder_trouble, "redis": redis_trouble}.get(part, replica_trouble)
    mends = [await begin(stack, part, fault)]

    async def mend():
        while mends:
            await mends.pop()()

    try:
        yield mend
    finally:
        await mend()


async def geocoder_trouble(stack, part, fault):
    geocoder = stack.geocoder
    if fault == "down":
        geocoder.kill()
        return lambda: asyncio.to_thread(geocoder.start)
    geocoder.set_trouble("stuck" if fault == "killed" else fault)
    if fault == "killed":
        killed = asyncio.create_task(asyncio.to_thread(geocoder.kill_in_mid_call))
        return lambda: killed
    return lambda: asyncio.to_thread(geocoder.set_trouble, "")


async def replica_trouble(stack, part, fault):
    """Of the embedder or the judge. A replica that replaces a killed one is well."""
    handle = stack.handles[part]
    if fault not in ("down", "killed"):
        await handle.set_trouble.remote(fault)
        return lambda: handle.set_trouble.remote("")
    replica = psutil.Process(await handle.pid.remote())
    if fault == "down":
        replica.kill()
        return lambda: until(lambda: answers(handle))
    await handle.set_trouble.remote("stuck")
    killed = asyncio.create_task(kill_in_mid_call(handle, replica.kill))
    return lambda: killed


async def redis_trouble(stack, part, fault):
    redis = stack.redis
    if fault == "down":
        await asyncio.to_thread(redis.stop)
        return lambda: asyncio.to_thread(stack.start_redis)
    if fault == "garbage":
        spoiled = asyncio.create_task(spoil(redis.url))
        return lambda: stopped(spoiled)
    if fault == "killed":  # its owner starts it again
        killed = asyncio.create_task(
            kill_in_mid_call(stack.handles["embedder"], lambda: os.kill(redis.pid, signal.SIGKILL))
        )
        return lambda: killed
    os.kill(redis.pid, signal.SIGSTOP)
    flapping = asyncio.create_task(flap(redis.pid)) if fault == "flapping" else None

    async def wake():
        if flapping:
            await stopped(flapping)
        os.kill(redis.pid, signal.SIGCONT)

    return wake


async def kill_in_mid_call(handle, kill):
    before = await handle.asked.remote()

    async def called():
        return await handle.asked.remote() > before

    await until(called)
    kill()


async def answers(handle):
    try:
        return await asyncio.wait_for(handle.pid.remote(), 5.0) > 0
    except Exception:  # noqa: BLE001 (Ray's and Serve's of a replica that is dying or not there yet)
        return False


async def flap(pid):
    while True:
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(0.4)


async def spoil(url):
    """Overwrites whatever the cache holds, again and again."""
    with Redis.from_url(url) as client:
        while True:
            for i, key in enumerate(await asyncio.to_thread(client.keys, "geoagent:*")):
                if not key.endswith(b":claim") and b"geoagent:counters" not in key:
                    client.set(key, (b"\x80", b"7", b'{"lat": "north"}', b"[NaN, 3]")[i % 4])
            await asyncio.sleep(0.01)


async def stopped(task):
    task.cancel()
    await asyncio.wait([task])


async def until(true, within_s=90.0):
    deadline = time.monotonic() + within_s
    while not await true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
