"""Collects many concurrent single questions into few calls, because a remote call costs
milliseconds.

Questions wait until a short linger is over, a chunk is full or an earlier call returns; equal
questions that wait or are in flight share one answer. Plain asyncio: may know nothing of Ray,
rewards or what is asked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from geoagent_rl.types import InfraError


class Chunker:
    """`call(list of questions)` answers a list in the same order; an InfraError in place of an
    answer fails that one.

    At most `parallel` calls of at most `max_chunk` questions are in flight. Use it from one event
    loop."""

    def __init__(
        self,
        call: Callable[[list[Any]], Awaitable[Sequence[Any]]],
        max_chunk: int = 64,
        parallel: int = 8,
        linger_s: float = 0.003,
    ):
        self._call, self.max_chunk, self.parallel, self.linger_s = (
            call,
            max_chunk,
            parallel,
            linger_s,
        )
        self._futures: dict[Hashable, asyncio.Future[Any]] = {}  # waiting or in flight
        self._waiting: dict[Hashable, None] = {}  # in order of arrival
        self._calls: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, questions: Sequence[Hashable]) -> list[Any]:
        """Return the answers in order. Raises the first failure. A caller that is cancelled does
        not disturb the others.
        """
        futures = [self._future(question) for question in questions]
        if futures:
            await asyncio.wait(futures)
        return [future.result() for future in futures]

    async def close(self) -> None:
        """Cancel what is in flight; those who wait get an InfraError."""
        if self._timer:
            self._timer.cancel()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._land(list(self._waiting), InfraError("the client was closed"))
        self._waiting.clear()

    def _future(self, question: Hashable) -> asyncio.Future[Any]:
        found = self._futures.get(question)
        if found is None:
            found = self._futures[question] = asyncio.get_running_loop().create_future()
            self._waiting[question] = None
            if len(self._waiting) >= self.max_chunk:
                self._send()
            elif self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self.linger_s, self._send)
        return found

    def _send(self) -> None:
        """Send what waits, as far as calls may be in flight; each call that returns sends the
        rest.
        """
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._waiting and len(self._calls) < self.parallel:
            chunk = list(itertools.islice(self._waiting, self.max_chunk))
            for question in chunk:
                del self._waiting[question]
            call = asyncio.create_task(self._fly(chunk))
            self._calls.add(call)
            call.add_done_callback(self._returned)

    def _returned(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            self._send()

    async def _fly(self, chunk: list[Hashable]) -> None:
        try:
            answers = list(await self._call(chunk))
            if len(answers) != len(chunk):
                raise InfraError(f"{len(answers)} answers to {len(chunk)} questions")
            for question, answer in zip(chunk, answers, strict=True):
                self._land([question], answer)
        except asyncio.CancelledError:
            self._land(chunk, InfraError("the client was closed"))
            raise
        except Exception as error:  # noqa: BLE001 (handed to everyone who waits)
            self._land(chunk, error)

    def _land(self, questions: Sequence[Hashable], answer: Any) -> None:
        for question in questions:
            future = self._futures.pop(question, None)
            if future is None or future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
                future.exception()  # seen: perhaps nobody waits any more
            else:
                future.set_result(answer)
