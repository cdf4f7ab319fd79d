"""Rate limits shared through a real Redis: one rate and one budget for many processes, and a local
rate when it is away.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from actors.cache import Cache
from actors.shared_rate_limit import SharedRateLimiter
from geoagent_rl.geo.rate_limit import Limit
from geoagent_rl.types import InfraError

WORKER = """
    import asyncio, json, sys, time
    from actors.cache import Cache
    from actors.shared_rate_limit import SharedRateLimiter
    from geoagent_rl.geo.rate_limit import Limit
    from geoagent_rl.types import InfraError
    url, keys, limit = sys.argv[1], json.loads(sys.argv[2]), Limit(*json.loads(sys.argv[3]))
    async def one(turns):
        try:
            return keys[await turns.take(keys, limit)], time.time()
        except InfraError as error:
            return str(error), time.time()
    async def main():
        cache = Cache(url, timeout_s=2.0)
        turns = SharedRateLimiter(cache, 0.1)
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(await asyncio.gather(*(one(turns) for _ in range(40)))), flush=True)
        await cache.close()
    asyncio.run(main())
"""


def turns_of_processes(redis, keys, limit, n=3):
    """[key or error, Unix seconds] of 40 turns in each of n processes."""
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(WORKER),
        redis.url,
        json.dumps(keys),
        json.dumps(limit),
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(n)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    answers = []
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        answers += json.loads(worker.communicate(timeout=60)[0])
        assert worker.returncode == 0
    return answers


def test_many_processes_keep_one_rate(redis):
    rate = 50.0
    times = sorted(at for _, at in turns_of_processes(redis, ["rate"], (rate, 0, 30.0)))
    assert len(times) == 120
    for i in range(120):  # in no second more than a bucket and a second's tokens
        later = sum(times[i] <= at < times[i] + 1.0 for at in times)
        assert later <= 2 * rate + 3
    assert times[-1] - times[0] >= (120 - rate) / rate - 0.1


def test_many_processes_share_one_budget_and_all_keys(redis):
    answers = turns_of_processes(redis, ["one", "two"], (1000.0, 30, 30.0))
    used = [what for what, _ in answers]
    assert used.count("one") == used.count("two") == 30
    assert sum("daily budget" in what for what in used) == 60


def run(work, url, **kwargs):
    async def main():
        cache = Cache(url, **kwargs)
        try:
            return await work(cache, SharedRateLimiter(cache, 0.1))
        finally:
            await cache.close()

    return asyncio.run(main())


def test_a_pause_holds_everywhere_and_says_why(redis):
    async def pause(cache, turns):
        await turns.pause("paused", 500.0, "the quota is used up (402)")

    async def take(cache, turns):
        assert await turns.take(["paused", "other"], Limit(1000.0, 0, 1.0)) == 1
        with pytest.raises(InfraError, match=r"402.*free in (499|500) s"):
            await turns.take(["paused"], Limit(1000.0, 0, 1.0))

    run(pause, redis.url)
    run(take, redis.url)


def test_what_a_paid_key_has_used_is_kept_until_the_server_goes(redis):
    """Without a time to live: only what has one is evicted when the cache is full."""

    async def work(cache, turns):
        await turns.take(["digest"], Limit(1000.0, 0, 1.0))
        return await cache.script(
            "return redis.call('TTL', KEYS[1])", ["geoagent:turns:digest"], []
        )

    assert run(work, redis.url) == -1  # there, and without a time to live


def test_without_redis_each_worker_goes_on_at_its_share(server):
    limit = Limit(100.0, 50, 0.3)

    async def work(cache, turns):
        start = time.monotonic()
        found = await asyncio.gather(
            *(turns.take(["k"], limit) for _ in range(30)), return_exceptions=True
        )
        return len([f for f in found if f == 0]), time.monotonic() - start

    for url in ("redis://127.0.0.1:1/0", "off"):
        taken, seconds = run(work, url)
        assert taken == 5 and seconds < 10  # a tenth of the budget
    os.kill(server.pid, signal.SIGSTOP)
    try:
        taken, seconds = run(work, server.url)
        assert taken == 5 and seconds < 10
    finally:
        os.kill(server.pid, signal.SIGCONT)
