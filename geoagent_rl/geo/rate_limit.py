"""Whose turn it is to ask a remote service: a token bucket, a daily budget and a pause per API key.

`RateLimiter` is what a service is asked through before each request; `Turns` is one service's keys
and requests under way; `LocalRateLimiter` counts within this process.
actors/shared_rate_limit.py counts in Redis for the whole cluster by the same rule. May know nothing
of HTTP, Redis or where keys come from."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from geoagent_rl.types import InfraError

T = TypeVar("T")
DAY_S = 86_400.0
PAUSE_429_S = 1.0  # where a 429 brings no Retry-After
PAUSE_REFUSED_S = 600.0  # a key that was refused is tried again after this
RATE_RETRIES = 2  # of one question, besides one try per key
BURST_S = 1.0  # a bucket that was left alone holds this many seconds' tokens (at least one)


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of each key. rate_per_s > 0; daily_budget per UTC day, 0: none; longest_wait_s for
    a turn."""

    rate_per_s: float
    daily_budget: int
    longest_wait_s: float

    @property
    def every_s(self) -> float:
        """Return seconds between two turns of a key."""
        return 1.0 / self.rate_per_s

    @property
    def ahead_s(self) -> float:
        """Return how far requests may run ahead of the even rate: a full bucket less the token in
        hand."""
        return max(0.0, BURST_S - self.every_s)

    def share(self, share: float) -> Limit:
        """Return the same for one of many that do not know of each other."""
        budget = max(1, int(self.daily_budget * share)) if self.daily_budget else 0
        return Limit(self.rate_per_s * share, budget, self.longest_wait_s)


class RateLimiter(Protocol):
    """What hands out turns, here or for many processes."""

    async def take(self, keys: Sequence[str], limit: Limit) -> int:
        """Wait for the first turn among `keys` and return its index. `keys` are names, never the
        API keys themselves.

        Raises InfraError saying why when no key has a turn within limit.longest_wait_s.
        """

    async def pause(self, key: str, seconds: float, why: str) -> None:
        """Let nobody use `key` for so long; `why` is what `take` says then."""


@dataclass(slots=True)
class _State:
    even: float = 0.0  # when the next request would be due at the even rate, Unix seconds
    day: float = -1.0
    used: int = 0  # on that day
    paused_until: float = 0.0
    why: str = ""


class LocalRateLimiter:
    """A RateLimiter within this process. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._states: dict[str, _State] = {}

    async def take(self, keys: Sequence[str], limit: Limit) -> int:
        """Wait for the first turn among `keys` and return its index."""
        index, wait_s = self.reserve(keys, limit)
        await asyncio.sleep(wait_s)
        return index

    async def pause(self, key: str, seconds: float, why: str) -> None:
        """Let a key rest."""
        self.pause_now(key, seconds, why)

    def pause_now(self, key: str, seconds: float, why: str) -> None:
        """Let a key rest, from this moment."""
        state = self._states.setdefault(key, _State())
        until = self._clock() + seconds
        if until > state.paused_until:
            state.paused_until, state.why = until, why

    def reserve(self, keys: Sequence[str], limit: Limit) -> tuple[int, float]:
        """Return (index, seconds until its turn) of the key whose turn comes first; of equals the
        one that rested longest."""
        now = self._clock()
        day = now // DAY_S
        best: tuple[float, float, int] | None = None
        soonest, why = float("inf"), ""
        for i, key in enumerate(keys):
            state = self._states.setdefault(key, _State())
            at = max(now, state.paused_until, state.even - limit.ahead_s)
            reason = state.why if state.paused_until > now else OVER_RATE
            if limit.daily_budget and state.day == day and state.used >= limit.daily_budget:
                at, reason = max(at, (day + 1) * DAY_S), OVER_BUDGET
            elif at - now <= limit.longest_wait_s and (best is None or (at, state.even) < best[:2]):
                best = (at, state.even, i)
            if at < soonest:
                soonest, why = at, reason
        if best is None:
            raise no_turn(why, soonest - now, len(keys))
        at, _, i = best
        state = self._states[keys[i]]
        state.even = max(state.even, at) + limit.every_s
        state.used = (state.used if state.day == day else 0) + 1
        state.day = day
        return i, at - now


OVER_RATE = "too many requests wait for their turn (rate_per_s)"
OVER_BUDGET = "the daily budget is used up (daily_budget)"


def no_turn(why: str, seconds: float, keys: int) -> InfraError:
    """Return the failure when all keys are out; `why` and `seconds` belong to the one that is back
    first.
    """
    return InfraError(
        f"{why}; {'the key is' if keys == 1 else f'the first of {keys} keys is'} free in {seconds:.0f} s"
    )


class KeyRests(Exception):
    """A key must be left alone for `seconds`, for the reason `problem`: the question goes on to the
    next key.
    """

    def __init__(self, problem: str, seconds: float):
        super().__init__(problem)
        self.problem, self.seconds = problem, seconds


class Turns:
    """Requests to one service: each waits for a turn of one of its keys, and at most `in_flight`
    are under way.

    service: as messages call it. keys: names of the keys, see `limited_key`."""

    def __init__(
        self,
        service: str,
        keys: Sequence[str],
        limit: Limit,
        in_flight: int,
        limiter: RateLimiter | None = None,
    ):
        self._service, self._keys, self._limit = service, keys, limit
        self._slots = asyncio.Semaphore(in_flight)
        self._limiter = limiter or LocalRateLimiter()

    async def ask(self, request: Callable[[int], Awaitable[T]]) -> T:
        """Return what `request`, called with a key's number, returns. Where it raises KeyRests
        another key or a later time is tried. Raises InfraError when there is no turn in time.
        """
        try:
            async with asyncio.timeout(self._limit.longest_wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise self._failure(
                f"more than {self._limit.longest_wait_s:g} s of waiting for a free connection"
            ) from None
        try:
            return await self._ask(request)
        finally:
            self._slots.release()

    async def _ask(self, request: Callable[[int], Awaitable[T]]) -> T:
        problem = ""
        for _ in range(len(self._keys) + RATE_RETRIES):
            try:
                i = await self._limiter.take(self._keys, self._limit)
            except InfraError as error:
                raise self._failure(str(error)) from None
            try:
                return await request(i)
            except KeyRests as rest:
                problem = rest.problem
                await self._limiter.pause(self._keys[i], rest.seconds, problem)
        raise self._failure(problem)

    def _failure(self, what: str) -> InfraError:
        return InfraError(f"{self._service}: {what}")


def limited_key(service: str, host: str, key: str) -> str:
    """Name a key in places where the key itself must not appear."""
    digest = hashlib.sha256("\x1f".join((service, host, key)).encode()).hexdigest()
    return f"{service}:{digest[:16]}"
