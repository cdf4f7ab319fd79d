"""Chunking: many single questions travel in few calls, equal ones once, and one failure hurts
nobody else.
"""

from __future__ import annotations

import asyncio

import pytest

from actors.chunking import Chunker
from geoagent_rl.types import InfraError


class Remote:
    """`held`: it answers when `free` is set, otherwise after a moment."""

    def __init__(self, held=False):
        self.chunks, self.most, self.now = [], 0, 0
        self.asked, self.free = asyncio.Event(), asyncio.Event()
        self.held = held

    async def __call__(self, chunk):
        self.chunks.append(chunk)
        self.asked.set()
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await (self.free.wait() if self.held else asyncio.sleep(0.001))
        finally:
            self.now -= 1
        return [InfraError(f"{q} failed") if q < 0 else q * 10 for q in chunk]


async def test_concurrent_questions_share_calls_within_the_limits():
    remote = Remote()
    chunker = Chunker(remote, max_chunk=16, parallel=2)
    found = await asyncio.gather(*(chunker.ask([i, i + 1]) for i in range(200)))
    assert found == [[i * 10, i * 10 + 10] for i in range(200)]
    assert sorted(q for chunk in remote.chunks for q in chunk) == list(range(201))  # each once
    assert max(map(len, remote.chunks)) == 16 and remote.most == 2


async def test_a_question_in_flight_is_not_asked_again():
    remote = Remote(held=True)
    chunker = Chunker(remote, linger_s=0.0)
    first = asyncio.create_task(chunker.ask([1]))
    await remote.asked.wait()
    again = asyncio.create_task(chunker.ask([1]))
    await asyncio.sleep(0)
    remote.free.set()
    assert await again == [10] and await first == [10]
    assert remote.chunks == [[1]]
    assert await chunker.ask([1]) == [10] and remote.chunks == [[1], [1]]  # a chunker is no cache


async def test_a_failed_question_fails_alone_and_a_failed_call_as_a_whole():
    chunker = Chunker(Remote())
    good, bad = await asyncio.gather(chunker.ask([1, 2]), chunker.ask([-3]), return_exceptions=True)
    assert good == [10, 20] and isinstance(bad, InfraError)

    async def down(chunk):
        raise InfraError("down")

    with pytest.raises(InfraError, match="down"):
        await Chunker(down).ask([1])

    async def short(chunk):
        return []

    with pytest.raises(InfraError, match="0 answers to 1"):
        await Chunker(short).ask([1])


async def test_a_cancelled_caller_disturbs_nobody():
    remote = Remote(held=True)
    chunker = Chunker(remote)
    gone = asyncio.create_task(chunker.ask([1, 2]))
    stays = asyncio.create_task(chunker.ask([2, 3]))
    await remote.asked.wait()
    gone.cancel()
    remote.free.set()
    assert await stays == [20, 30]
    assert not chunker._futures and not chunker._waiting


async def test_close_frees_everyone_who_waits():
    remote = Remote(held=True)
    chunker = Chunker(remote, max_chunk=1, parallel=1)
    tasks = [asyncio.create_task(chunker.ask([i])) for i in range(3)]
    await remote.asked.wait()
    await chunker.close()
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    assert all(isinstance(f, InfraError) for f in found)


async def test_ten_thousand_questions_pass():
    remote = Remote()
    chunker = Chunker(remote)
    found = await asyncio.gather(*(chunker.ask([i]) for i in range(10_000)))
    assert found == [[i * 10] for i in range(10_000)] and len(remote.chunks) < 400
