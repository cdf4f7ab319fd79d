"""The Redis cache of geocodes, similarities and verdicts, with single flight: equal questions are
worked out once.

`cached_batch` is what workers call. An answer that means "no such place" is cached like any other;
failures never are. Trouble with Redis of any kind is a miss and a counter, never an error, and a
server that hangs is left alone for a moment after each failed try instead of costing its timeout on
every call. A server that is full still answers reads. An entry that cannot be read (another
version's, somebody else's) is a miss and is overwritten. May know nothing of rewards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from geoagent_rl.files import parse_json
from geoagent_rl.secrets import REDIS_PASSWORD, read_secret
from geoagent_rl.types import InfraError

T = TypeVar("T")
OPEN_S = 1.0  # after a failure Redis is left alone for this long; then one call tries again
LEASE_S = 5.0  # a worker that dies holding a claim blocks others for at most this long
LONGEST_WAIT_S = 60.0  # for another worker's answer; then it is worked out here as well
FIRST_POLL_S, LAST_POLL_S = 0.004, 0.1
# Of an entry without a time of its own. Only what has one is evicted (maxmemory-policy
# volatile-lru): the counters of paid budgets have none.
FOREVER_S = 10 * 365 * 86400.0
LONGEST_KEY = 200  # characters; longer texts are hashed

# Per key: its value; or 1 when the caller has claimed it; or 0 when somebody else has.
_CLAIM = """
local out = {}
for i = 1, #KEYS / 2 do
  local value = redis.call('GET', KEYS[2 * i - 1])
  if value then out[i] = value
  elseif redis.call('SET', KEYS[2 * i], ARGV[1], 'NX', 'PX', ARGV[2]) then out[i] = 1
  else out[i] = 0 end
end
return out
"""
# Renews (ARGV[2] > 0) or releases claims that are still the caller's.
_KEEP = """
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[1] then
    if tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', KEYS[i], ARGV[2]) else redis.call('DEL', KEYS[i]) end
  end
end
"""
# For scripts that keep hashes: what another program has left under their names goes.
ONLY_HASHES = """
for _, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key)['ok']
  if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', key) end
end
"""


class Down(Exception):
    """Redis cannot be asked now. Never leaves this module."""


class Cache:
    """One process's view of the cache; use it from one event loop. `url` "off" keeps only single
    flight in-process.

    `counters`: <kind>_hits, <kind>_misses, <kind>_computed (here, not by another worker),
    <kind>_shared (waited for an equal question of this process), errors, skipped (while Redis was
    left alone), full (writes refused for want of memory)."""

    def __init__(self, url: str, timeout_s: float = 0.3):
        self.counters: Counter[str] = Counter()
        self.flights: dict[str, asyncio.Future[Any]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.timeout_s = timeout_s
        self._failing, self._try_again = False, 0.0
        self._client: Redis | None = None
        if url != "off":
            self._client = Redis.from_url(
                url,
                password=read_secret(os.environ, REDIS_PASSWORD)
                or None,  # one in the URL comes first
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
            )

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Ask one MGET. None where the cache has nothing or cannot be asked."""
        try:
            return await self._ask(lambda client: client.mget(keys)) if keys else []
        except Down:
            return [None] * len(keys)

    async def set_many(self, items: Mapping[str, bytes], ttl_s: float | None = None) -> None:
        """Send one pipeline of SETs, which is lost silently (but counted) when Redis cannot be
        asked."""

        def work(client: Redis) -> Awaitable[Any]:
            pipe = client.pipeline(transaction=False)
            for key, value in items.items():
                pipe.set(key, value, px=int((ttl_s or FOREVER_S) * 1000))
            return pipe.execute()

        try:
            await self._ask(work)
        except Down:
            pass

    async def claim(self, keys: Sequence[str], token: str) -> list[bytes | bool]:
        """Return for each key its value, True (claimed: work it out) or False (another worker has).
        Redis down: all True."""
        both = [name for key in keys for name in (key, _lock(key))]
        try:
            found = await self._ask(
                lambda c: c.eval(_CLAIM, len(both), *both, token, int(LEASE_S * 1000))
            )
        except Down:
            return [True] * len(keys)
        return [bool(state) if isinstance(state, int) else state for state in found]

    async def keep(self, keys: Sequence[str], token: str, lease_s: float) -> None:
        """Renew the caller's claims; lease 0 releases them."""
        try:
            await self._ask(
                lambda c: c.eval(
                    _KEEP, len(keys), *(_lock(k) for k in keys), token, int(lease_s * 1000)
                )
            )
        except Down:
            pass

    async def script(self, source: str, keys: Sequence[str], args: Sequence[Any]) -> Any | None:
        """Return what the Lua script returns (never nil); None when Redis cannot be asked."""
        try:
            return await self._ask(lambda c: c.eval(source, len(keys), *keys, *args))
        except Down:
            return None

    async def close(self) -> None:
        """Stop what is under way and close the connection."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _ask(self, work: Callable[[Redis], Awaitable[Any]]) -> Any:
        if self._client is None:
            raise Down
        now = time.monotonic()
        if now < self._try_again:
            self.counters["skipped"] += 1
            raise Down
        if self._failing:
            self._try_again = (
                now + OPEN_S
            )  # this call is the one that tries; the others go on without
        try:
            async with asyncio.timeout(2 * self.timeout_s):
                answer = await work(self._client)
        except (RedisError, OSError, TimeoutError) as error:
            full = isinstance(error, ResponseError) and "'maxmemory'" in str(error)
            self.counters["full" if full else "errors"] += 1
            if not isinstance(
                error, ResponseError
            ):  # else it answers at once, and other commands may well succeed
                self._failing, self._try_again = True, time.monotonic() + OPEN_S
            raise Down from error
        self._failing, self._try_again = False, 0.0
        return answer


def cache_key(kind: str, version: str, text: str) -> str:
    """Return the key of an answer. `version` names all that an answer depends on besides the text:
    provider or model, data version, language."""
    if len(text) > LONGEST_KEY:
        text = "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"geoagent:{kind}:{version}:{text}"


def failures_in_place(found: Iterable[T | BaseException]) -> list[T | InfraError]:
    """Return what was gathered with return_exceptions, InfraErrors in their places.

    Raises the first other exception: that is a bug and no answer."""
    kept: list[T | InfraError] = []
    for answer in found:
        if isinstance(answer, BaseException) and not isinstance(answer, InfraError):
            raise answer
        kept.append(answer)
    return kept


async def cached_batch(
    cache: Cache,
    kind: str,
    version: str,
    keys: Sequence[str],
    compute: Callable[[list[int]], Awaitable[list[Any]]],
    ttl_s: float | None = None,
    negative_ttl_s: float = 30 * 24 * 3600.0,
    read: Callable[[Any], Any] = lambda answer: answer,
) -> list[Any]:
    """Return the answers to `keys`, in order: from the cache, from a worker that is at it already,
    or from `compute`.

    `compute` gets positions into `keys` (each distinct key once) and returns JSON-able answers in
    that order, None for "there is no answer", or an InfraError in place of an answer that failed;
    raising InfraError fails all of them. Failures come back in place, as InfraError objects, and
    are not cached. Other exceptions of `compute` are raised. `read` makes a record of each answer
    that is not None; where it raises ValueError, TypeError or LookupError on a cached entry, that
    entry is a miss. A caller that is cancelled leaves the work going: others may wait for it, and
    the cache gets its answer."""
    names = [cache_key(kind, version, key) for key in keys]
    positions: dict[str, int] = {}
    for i, name in enumerate(names):
        positions.setdefault(name, i)
    flying = {name: cache.flights[name] for name in positions if name in cache.flights}
    asked = [name for name in positions if name not in flying]
    found = _readable(asked, await cache.get_many(asked), read)
    missing = [name for name in asked if name not in found]
    flying |= {
        name: cache.flights[name] for name in missing if name in cache.flights
    }  # others were quicker
    mine = [name for name in missing if name not in flying]
    for what, n in (("hits", len(found)), ("misses", len(mine)), ("shared", len(flying))):
        cache.counters[f"{kind}_{what}"] += n
    if mine:
        loop = asyncio.get_running_loop()
        flights = {name: loop.create_future() for name in mine}
        cache.flights.update(flights)
        flying |= flights
        job = _Job(cache, kind, flights, positions, compute, ttl_s, negative_ttl_s, read)
        task = asyncio.create_task(job.run())
        cache.tasks.add(task)
        task.add_done_callback(cache.tasks.discard)
    if flying:
        await asyncio.wait(flying.values())
        found |= {name: flight.result() for name, flight in flying.items()}
    return [found[name] for name in names]


def _readable(
    names: Sequence[str], values: Sequence[Any], read: Callable[[Any], Any]
) -> dict[str, Any]:
    """Return the answers among `values`, by name; without what is not there, and what is not ours
    and cannot be read.
    """
    found = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, bytes):
            try:
                answer = parse_json(value)
                found[name] = answer if answer is None else read(answer)
            except (ValueError, TypeError, LookupError):
                continue
    return found


@dataclass
class _Job:
    """Answers the flights of one batch: what the cache does not have and nobody else in this
    process is working on.
    """

    cache: Cache
    kind: str
    flights: dict[str, asyncio.Future[Any]]  # by cache key
    positions: dict[str, int]  # of each cache key in the caller's list
    compute: Callable[[list[int]], Awaitable[list[Any]]]
    ttl_s: float | None
    negative_ttl_s: float
    read: Callable[[Any], Any]
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    async def run(self) -> None:
        try:
            await self._answer_all()
        except asyncio.CancelledError:
            self._fail(InfraError("the cache was closed"))
        except Exception as error:  # noqa: BLE001 (handed to everyone who waits)
            self._fail(error)
        finally:
            for name in self.flights:
                self.cache.flights.pop(name, None)

    async def _answer_all(self) -> None:
        cache, left = self.cache, list(self.flights)
        give_up, pause = time.monotonic() + LONGEST_WAIT_S, FIRST_POLL_S
        while left:
            states = (
                await cache.claim(left, self.token)
                if time.monotonic() < give_up
                else [True] * len(left)
            )
            theirs = {name for name, state in zip(left, states, strict=True) if state is False}
            left = self._take(left, states)
            ours = [
                name for name in left if name not in theirs
            ]  # claimed, or holding something unreadable
            if ours:
                await self._work_out(ours)
                left = [name for name in left if name in theirs]
            elif left:
                await asyncio.sleep(pause)  # another worker is at these
                pause = min(1.5 * pause, LAST_POLL_S)

    async def _work_out(self, names: list[str]) -> None:
        """Asks `compute`, publishes what it answers, gives the claims back, lands the flights."""
        cache, keeper = self.cache, asyncio.create_task(self._keep_claims(names))
        cache.counters[f"{self.kind}_computed"] += len(names)
        try:
            try:
                answers = await self.compute([self.positions[name] for name in names])
            except InfraError as error:
                answers = [error] * len(names)
            if len(answers) != len(names):
                raise InfraError(f"{self.kind}: {len(answers)} answers to {len(names)} questions")
            found = dict(zip(names, answers, strict=True))
            plain = {name for name, a in found.items() if a is None or isinstance(a, InfraError)}
            # What cannot be read is not published either.
            records = {name: a if name in plain else self.read(a) for name, a in found.items()}
            for empty, ttl_s in ((False, self.ttl_s), (True, self.negative_ttl_s)):
                some = {
                    n: a
                    for n, a in found.items()
                    if not isinstance(a, InfraError) and (a is None) == empty
                }
                if some:
                    await cache.set_many(
                        {n: json.dumps(a, ensure_ascii=False).encode() for n, a in some.items()},
                        ttl_s,
                    )
        finally:
            keeper.cancel()
            await cache.keep(names, self.token, 0)
        for name, record in records.items():
            self.flights[name].set_result(record)

    async def _keep_claims(self, names: list[str]) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            await self.cache.keep(names, self.token, LEASE_S)

    def _take(self, names: list[str], values: Sequence[bytes | bool | None]) -> list[str]:
        """Lands the flights whose values are readable; returns the names of the others."""
        found = _readable(names, values, self.read)
        for name, answer in found.items():
            self.flights[name].set_result(answer)
        return [name for name in names if name not in found]

    def _fail(self, error: Exception) -> None:
        for flight in self.flights.values():
            if not flight.done() and isinstance(error, InfraError):
                flight.set_result(error)
            elif not flight.done():
                flight.set_exception(error)
                # seen: whoever waits raises it, and perhaps nobody waits any more
                flight.exception()


def _lock(key: str) -> str:
    return key + ":claim"
