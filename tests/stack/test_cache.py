"""The cache on a real Redis server: one flight over processes, and trouble that costs speed but
never an answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

import actors.cache
import actors.redis_server
from actors.cache import Cache, cache_key, cached_batch
from actors.redis_server import EmbeddedRedis, new_password
from geoagent_rl.network import free_port
from geoagent_rl.types import InfraError, UserError


def run(work):
    """Runs work(cache-maker) in a fresh event loop and closes every cache it made."""

    async def main():
        caches = []

        def make(url, **kwargs):
            caches.append(Cache(url, **kwargs))
            return caches[-1]

        try:
            return await work(make)
        finally:
            for cache in caches:
                await cache.close()

    return asyncio.run(main())


def upper(asked, keys):
    async def compute(positions):
        asked.extend(keys[i] for i in positions)
        await asyncio.sleep(0.01)
        return [keys[i].upper() for i in positions]

    return compute


async def ask(cache, keys, asked):
    return await cached_batch(cache, "test", "v1", keys, upper(asked, keys))


def python(code, *args, **kwargs):
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **kwargs)


def gone(pid, within=5.0):
    try:
        psutil.Process(pid).wait(within)
    except psutil.NoSuchProcess:
        pass
    return not psutil.pid_exists(pid)


def wait_for_restart(server, pid, within=10.0):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline and server.pid == pid:
        time.sleep(0.01)
    assert server.pid != pid


def test_answers_come_back_in_order_from_worker_then_cache(server):
    async def work(make):
        first, second, asked = make(server.url), make(server.url), []
        keys = ["a", "b", "a", "ü" * 500, "c"]
        assert await ask(first, keys, asked) == [k.upper() for k in keys]
        assert asked == ["a", "b", "ü" * 500, "c"]
        assert await ask(second, keys, asked) == [k.upper() for k in keys] and len(asked) == 4
        assert first.counters["test_misses"] == 4 and second.counters["test_hits"] == 4
        assert (
            await cached_batch(second, "test", "v2", ["a"], upper(asked, ["a"])) == ["A"]
            and len(asked) == 5
        )

    run(work)


def test_no_such_place_is_cached_and_failures_are_not(server):
    async def work(make):
        cache, calls = make(server.url), []

        async def compute(positions):
            calls.append(len(positions))
            return (
                [None, InfraError("quota")][: len(positions)]
                if len(positions) == 2
                else [InfraError("down")]
            )

        found = await cached_batch(cache, "test", "v1", ["nowhere", "busy"], compute)
        assert found[0] is None and isinstance(found[1], InfraError)
        found = await cached_batch(cache, "test", "v1", ["nowhere", "busy"], compute)
        assert found[0] is None and str(found[1]) == "down"  # asked again, alone
        assert calls == [2, 1]

    run(work)


WORKER = """
    import asyncio, sys, os
    from actors.cache import Cache, cached_batch
    url, log, keys = sys.argv[1], sys.argv[2], [f"k{i}" for i in range(40)]
    async def ask(cache, some):
        async def compute(positions):
            await asyncio.sleep(0.3)
            with open(log, "a") as file:
                file.write("".join(f"{some[i]}\\n" for i in positions))
            return [some[i] * 2 for i in positions]
        assert await cached_batch(cache, "test", "v1", some, compute) == [key * 2 for key in some]
        return len(some)
    async def main():
        cache = Cache(url, timeout_s=2.0)
        print("ready", flush=True)
        sys.stdin.readline()
        calls = [ask(cache, keys[i:i + 10]) for i in range(0, 40, 5)]
        print(sum(await asyncio.gather(*calls)), flush=True)
        await cache.close()
    asyncio.run(main())
"""


def test_of_equal_questions_in_several_processes_one_is_worked_out(server, tmp_path):
    log = tmp_path / "log"
    workers = [python(WORKER, server.url, str(log), stdin=subprocess.PIPE) for _ in range(4)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.close()
    answered = []
    for worker in workers:
        answered.append(worker.stdout.readline().strip())
        assert worker.wait(30) == 0
    assert answered == ["75"] * 4
    assert sorted(log.read_text().split()) == sorted(f"k{i}" for i in range(40))


def test_a_worker_that_dies_with_a_claim_blocks_nobody_for_long(server, monkeypatch):
    monkeypatch.setattr(actors.cache, "LEASE_S", 0.6)
    holder = python(
        """
        import asyncio, sys
        import actors.cache
        actors.cache.LEASE_S = 0.6
        async def main():
            key = actors.cache.cache_key("test", "v1", "k")
            print(await actors.cache.Cache(sys.argv[1]).claim([key], "me"), flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
        """,
        server.url,
    )
    assert holder.stdout.readline() == "[True]\n"
    holder.kill()
    holder.wait()

    async def work(make):
        start, asked = time.monotonic(), []
        assert await ask(make(server.url), ["k"], asked) == ["K"] and asked == ["k"]
        assert time.monotonic() - start < 10

    run(work)


def test_a_claim_outlives_its_lease_while_its_owner_works(server, monkeypatch):
    monkeypatch.setattr(actors.cache, "LEASE_S", 0.9)  # renewed every third of it

    async def work(make):
        asked = []

        async def slow(positions):
            asked.append(len(positions))
            await asyncio.sleep(2.0)
            return ["x"] * len(positions)

        caches = [make(server.url), make(server.url)]
        found = await asyncio.gather(*(cached_batch(c, "test", "v1", ["k"], slow) for c in caches))
        assert found == [["x"], ["x"]] and asked == [1]

    run(work)


def test_a_killed_server_costs_misses_and_comes_back_with_its_data(server, monkeypatch):
    monkeypatch.setattr(actors.cache, "OPEN_S", 0.1)

    async def work(make):
        cache, asked, pid = make(server.url), [], server.pid
        await ask(cache, ["old"], asked)
        await asyncio.sleep(1.2)  # the append-only file is written once a second
        os.kill(pid, signal.SIGKILL)
        assert await ask(cache, ["new"], asked) == ["NEW"]
        assert cache.counters["errors"] >= 1
        await asyncio.to_thread(wait_for_restart, server, pid)
        deadline = time.monotonic() + 10
        while (await cache.get_many([cache_key("test", "v1", "old")]))[
            0
        ] is None and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert await ask(cache, ["old"], asked) == ["OLD"]
        assert asked == ["old", "new"]

    run(work)


def test_a_hung_server_is_left_alone(server, monkeypatch):
    monkeypatch.setattr(actors.cache, "OPEN_S", 0.5)

    async def work(make):
        cache, asked = make(server.url), []
        await ask(cache, ["warm"], asked)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            start = time.monotonic()
            for i in range(30):
                assert await ask(cache, [f"k{i}"], asked) == [f"K{i}"]
            assert time.monotonic() - start < 20  # 30 calls of three time-outs each would be 27 s
            assert cache.counters["skipped"] > 20
        finally:
            os.kill(server.pid, signal.SIGCONT)
        deadline = time.monotonic() + 10
        while (await cache.get_many([cache_key("test", "v1", "warm")]))[
            0
        ] is None and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert await ask(cache, ["warm"], asked) == ["WARM"] and asked.count("warm") == 1

    run(work)


def test_no_server_at_all_wrong_password_and_foreign_values(server):
    async def work(make):
        for url in ("redis://127.0.0.1:1/0", server.url.replace("://:", "://:x"), "off"):
            asked = []
            assert await ask(make(url), ["a", "a", "b"], asked) == ["A", "A", "B"] and asked == [
                "a",
                "b",
            ]
        cache, asked = make(server.url), []
        await cache.set_many({cache_key("test", "v1", "a"): b"\x80 not ours"})
        assert await ask(cache, ["a"], asked) == ["A"] and await ask(cache, ["a"], asked) == ["A"]
        assert asked == ["a"]

    run(work)


def test_equal_questions_of_one_process_share_a_flight_and_survive_a_cancelled_caller():
    async def work(make):
        cache, asked = make("off"), []
        first = asyncio.create_task(ask(cache, ["a", "b"], asked))
        await asyncio.sleep(0)
        second = asyncio.create_task(ask(cache, ["b", "c"], asked))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == ["B", "C"]
        assert asked == ["a", "b", "c"] and cache.counters["test_shared"] == 1 and not cache.flights

    run(work)


def test_a_bug_in_the_worker_reaches_every_caller(server):
    async def work(make):
        async def broken(positions):
            raise ZeroDivisionError

        cache = make(server.url)
        calls = [cached_batch(cache, "test", "v1", ["a"], broken) for _ in range(2)]
        assert [type(e) for e in await asyncio.gather(*calls, return_exceptions=True)] == [
            ZeroDivisionError
        ] * 2

    run(work)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_dies_with_its_owner(tmp_path, how):
    owner = python(
        """
        import sys, threading
        from actors.redis_server import EmbeddedRedis, new_password
        from geoagent_rl.network import free_port
        server = EmbeddedRedis(sys.argv[1], free_port(), new_password())
        server.start()
        print(server.pid, flush=True)
        threading.Event().wait()
        """,
        str(tmp_path),
    )
    pid = int(owner.stdout.readline())
    assert psutil.pid_exists(pid)
    owner.send_signal(how)
    owner.wait(10)
    assert gone(pid)


def test_two_runs_cannot_share_a_directory_and_the_password_is_not_on_show(server, monkeypatch):
    monkeypatch.setattr(actors.redis_server, "LOCK_S", 0.1)
    with pytest.raises(UserError, match="in use by another run"):
        EmbeddedRedis(server.directory, free_port(), new_password()).start()
    password = server.url.split(":")[2].split("@")[0]
    assert password not in " ".join(psutil.Process(server.pid).cmdline())
    for file in server.directory.rglob("*"):
        assert not file.is_file() or password.encode() not in file.read_bytes()


def test_a_taken_port_is_an_infra_error(server):
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    with pytest.raises(InfraError, match="did not start"):
        EmbeddedRedis(server.directory.parent / "other", port, new_password()).start()
