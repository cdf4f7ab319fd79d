"""Rate limits of remote geocoders for the whole cluster, kept in Redis: ten workers do not make ten
times the rate.

The rule is that of LocalRateLimiter (geo/rate_limit.py), written in Lua on the clock of the Redis
server. While Redis cannot be asked, each worker goes on alone at a share of the rate and budget.
API keys never reach Redis, only digests of them. These have no time to live: a server with
`maxmemory-policy volatile-lru` evicts cache entries, which have one, and never forgets what was
spent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from actors.cache import ONLY_HASHES, Cache
from geoagent_rl.geo.rate_limit import OVER_BUDGET, OVER_RATE, Limit, LocalRateLimiter, no_turn

PREFIX = "geoagent:turns:"

# ARGV: seconds between requests, seconds ahead, daily budget, longest wait. Returns {index from 1
# or 0, ms, why}.
_TAKE = (
    ONLY_HASHES
    + """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local day = math.floor(now / 86400)
local every, ahead, budget, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local best, best_at, best_even, best_used
local soonest, why = math.huge, ''
for i, key in ipairs(KEYS) do
  local s = redis.call('HMGET', key, 'even', 'day', 'used', 'until', 'why')
  local even, till = tonumber(s[1]) or 0, tonumber(s[4]) or 0
  local used = tonumber(s[2]) == day and tonumber(s[3]) or 0
  local at = math.max(now, till, even - ahead)
  local reason = till > now and s[5] or 'rate'
  if budget > 0 and used >= budget then
    at, reason = math.max(at, (day + 1) * 86400), 'budget'
  elseif at - now <= longest and (not best or at < best_at or (at == best_at and even < best_even)) then
    best, best_at, best_even, best_used = i, at, even, used
  end
  if at < soonest then soonest, why = at, reason end
end
if not best then return {0, math.ceil((soonest - now) * 1000), why} end
local even = string.format('%.6f', math.max(best_even, best_at) + every)
redis.call('HSET', KEYS[best], 'even', even, 'day', day, 'used', best_used + 1)
redis.call('PERSIST', KEYS[best])
return {best, math.ceil((best_at - now) * 1000), ''}
"""
)
_PAUSE = (
    ONLY_HASHES
    + """
local time = redis.call('TIME')
local till = time[1] + time[2] / 1e6 + tonumber(ARGV[1])
if till > (tonumber(redis.call('HGET', KEYS[1], 'until')) or 0) then
  redis.call('HSET', KEYS[1], 'until', string.format('%.6f', till), 'why', ARGV[2])
  redis.call('PERSIST', KEYS[1])
end
return 1
"""
)


class SharedRateLimiter:
    """RateLimiter (geo/rate_limit.py) shared by every process that uses the same Redis."""

    def __init__(self, cache: Cache, share_without_redis: float):
        self._cache, self._share = cache, share_without_redis
        self._alone = LocalRateLimiter()

    async def take(self, keys: Sequence[str], limit: Limit) -> int:
        """Wait for a turn under every key; return which key was free first. InfraError when the
        wait would be too long."""
        args = (limit.every_s, limit.ahead_s, limit.daily_budget, limit.longest_wait_s)
        answer = await self._cache.script(_TAKE, [PREFIX + key for key in keys], args)
        if answer is None:
            return await self._alone.take(keys, limit.share(self._share))
        index: int
        index, wait_ms, why = answer
        if index == 0:
            known = {b"rate": OVER_RATE, b"budget": OVER_BUDGET}
            raise no_turn(known.get(why) or why.decode(), wait_ms / 1000, len(keys))
        await asyncio.sleep(wait_ms / 1000)
        return index - 1

    async def pause(self, key: str, seconds: float, why: str) -> None:
        """Pause here too, for the time when Redis cannot be asked."""
        self._alone.pause_now(key, seconds, why)
        await self._cache.script(_PAUSE, [PREFIX + key], (seconds, why))
