"""Remote geocoders (providers/) through geopy. A query -> a Match, None (no such place), or a
failure.

An answer: HTTP 200 in the documented shape, with or without results. Everything else is an
InfraError and never a "no such place": 402 (quota: the key rests until its reset), 429 (the key
rests for Retry-After), 401 and 403 (key refused), other codes, timeouts, refused connections,
broken JSON, and JSON that is not the service's, which geopy itself may take for an empty result. A
402, 429, 401 or 403 moves the query on to the next key. Keys come from the environment and appear
in no message. May know nothing of caches, Redis or the order of providers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote_plus
from urllib.request import proxy_bypass

from geopy import exc
from geopy.adapters import AdapterHTTPError, AioHTTPAdapter

from geoagent_rl.config.reward import GeocoderConfig
from geoagent_rl.files import parse_json
from geoagent_rl.geo.chain import Address
from geoagent_rl.geo.match import Match
from geoagent_rl.geo.providers import PROVIDERS, key_names, remote_names
from geoagent_rl.geo.providers.provider import Provider, Undocumented
from geoagent_rl.geo.rate_limit import (
    DAY_S,
    PAUSE_429_S,
    PAUSE_REFUSED_S,
    KeyRests,
    Limit,
    RateLimiter,
    Turns,
    limited_key,
)
from geoagent_rl.network import is_loopback, service_address
from geoagent_rl.secrets import required_secret
from geoagent_rl.types import InfraError, UserError

# of what is made of an answer: raise it when the same answer gives another Match (cached ones are
# paid for)
FORMAT = 1
LONGEST_QUERY = (
    300  # characters; longer ones name no place, and services refuse them as faulty requests
)
PUBLIC_NOMINATIM = "nominatim.openstreetmap.org"

logging.getLogger("geopy").setLevel(logging.WARNING)  # below that it logs whole URLs, with the key


class _Documented(AioHTTPAdapter):  # type: ignore[misc]
    """Refuses JSON that is not of the service's documented shape, before geopy makes "no result" of
    it.
    """

    def __init__(self, service: Provider, **kwargs: Any):
        super().__init__(**kwargs)
        self._service = service

    async def get_json(  # its signature is geopy's
        self,
        url: str,
        *,
        timeout: float,  # noqa: ASYNC109
        headers: Mapping[str, str],
    ) -> Any:
        document = await super().get_json(url, timeout=timeout, headers=headers)
        try:
            return self._service.checked(document)
        except Undocumented as error:
            raise exc.GeocoderParseError(str(error)) from None


class Remote:
    """One provider with all its keys. Use it from one event loop, and `close` it there.

    Raises UserError for an address that is no URL or a key that the environment does not have.
    """

    def __init__(
        self,
        provider: str,
        config: GeocoderConfig,
        environ: Mapping[str, str],
        limiter: RateLimiter | None = None,
    ):
        own, self.service = getattr(config, provider), PROVIDERS[provider]
        self.provider = provider
        self.key_names = key_names(config, provider)
        self._keys = [
            required_secret(environ, name, f"reward.geocoder.{provider}.api_key_env")
            for name in self.key_names
        ]
        parts = service_address(f"reward.geocoder.{provider}.url", own.url, bool(self._keys))
        self.host = parts.netloc + parts.path.rstrip("/")
        self.version = (
            f"{provider}:{self.host}:{config.language}:{FORMAT}"  # of its answers, for a cache
        )
        if self.service.needs_key and not self._keys:
            raise UserError(
                f"reward.geocoder.{provider}.api_key_env must name an environment variable that holds a key"
            )
        if own.rate_per_s <= 0:
            raise UserError(
                f"reward.geocoder.{provider}.rate_per_s must be greater than 0, not {own.rate_per_s}"
            )
        self._turns = Turns(
            f"geocoder {provider} ({self.host})",
            [limited_key(provider, self.host, key) for key in self._keys or [""]],
            Limit(own.rate_per_s, own.daily_budget, config.longest_wait_s),
            config.in_flight,
            limiter,
        )
        common: dict[str, Any] = {
            "scheme": parts.scheme,
            "domain": self.host,
            "timeout": config.timeout_s,
            "user_agent": config.user_agent,
            "proxies": {}
            if proxy_bypass(self.host.split(":")[0]) or is_loopback(parts.hostname or "")
            else None,
            "adapter_factory": partial(_Documented, self.service),
        }
        keys: list[tuple[str, ...]] = [(key,) for key in self._keys] or [()]
        self._geocoders = [self.service.client(*key, **common) for key in keys]
        self._options = {"language": config.language, **self.service.options}

    async def close(self) -> None:
        """Close the connections."""
        for geocoder in self._geocoders:
            await geocoder.__aexit__(None, None, None)

    async def find(self, query: str) -> Match | None:
        """Return the service's first result, with its own level; None when it has none. Raises
        InfraError.

        A query without a letter or digit, or of more than 300 characters, is no place and is not
        sent."""
        query = query.encode("utf-8", "replace").decode()
        if len(query) > LONGEST_QUERY or not any(map(str.isalnum, query)):
            return None
        return await self._turns.ask(partial(self._request, query))

    async def _request(self, query: str, i: int) -> Match | None:
        """One request with key i. Raises KeyRests and InfraError."""
        try:
            return await self._ask(i, query)
        except exc.GeocoderRateLimited as error:
            rest_s = PAUSE_429_S if error.retry_after is None else error.retry_after
            raise KeyRests("asked to wait (429)", rest_s) from None
        except exc.GeocoderQuotaExceeded as error:
            spent = f"the quota of {self._name(i)} is used up (402)"
            raise KeyRests(spent, seconds_to_reset(error.__cause__)) from None
        except (exc.GeocoderAuthenticationFailure, exc.GeocoderInsufficientPrivileges) as error:
            refused = f"{self._name(i)} is refused ({_code(error)})"
            raise KeyRests(refused, PAUSE_REFUSED_S) from None

    async def _ask(self, i: int, query: str) -> Match | None:
        """One request. Raises geopy's errors about the key, and InfraError for all others."""
        try:
            location = await self._geocoders[i].geocode(query, **self._options)
        except (
            exc.GeocoderQuotaExceeded,
            exc.GeocoderAuthenticationFailure,
            exc.GeocoderInsufficientPrivileges,
        ):
            raise
        except (exc.GeopyError, AdapterHTTPError) as error:
            code = _code(error)
            said = (
                f"HTTP {code}"
                if code
                else f"{type(error).__name__}: {self._masked(str(error))[:160]}"
            )
            raise self._failure(said) from None
        return None if location is None else self.service.read(location.raw)

    async def check(self) -> None:
        """Make one request per key, so that a run stops at its start and not at its limit of
        unscorable samples.

        Raises UserError when a key is refused, InfraError when no key gets an answer.
        """
        failures = []
        for i in range(len(self._geocoders)):
            try:
                await self._ask(i, "France")
            except (exc.GeocoderAuthenticationFailure, exc.GeocoderInsufficientPrivileges) as error:
                refused = f"{self.provider} refuses {self._name(i)} ({_code(error)})"
                raise UserError(f"{refused}; mend or remove it") from None
            except exc.GeocoderRateLimited:
                continue  # the key works
            except exc.GeocoderQuotaExceeded:
                failures.append(f"the quota of {self._name(i)} is used up (402)")
            except InfraError as error:
                failures.append(str(error))
        if len(failures) == len(self._geocoders):
            raise InfraError(
                f"{failures[0]}; reward.geocoder.provider names {self.provider}, which must answer"
            )

    def _name(self, i: int) -> str:
        return f"the key in {self.key_names[i]}" if self.key_names else f"{self.host}'s access"

    def _masked(self, text: str) -> str:
        for key in self._keys:
            text = text.replace(key, "***").replace(quote_plus(key), "***")
        return " ".join(text.split())

    def _failure(self, what: str) -> InfraError:
        return InfraError(f"geocoder {self.provider} ({self.host}): {what}")


def remotes(
    config: GeocoderConfig, environ: Mapping[str, str], limiter: RateLimiter | None = None
) -> dict[str, Remote]:
    """Return the remote providers of the configured chain, by name. Raises UserError."""
    return {name: Remote(name, config, environ, limiter) for name in remote_names(config)}


async def check(config: GeocoderConfig, environ: Mapping[str, str]) -> None:
    """Ask every key of every provider once, before a run starts anything. Raises
    UserError, InfraError.
    """
    for remote in remotes(config, environ).values():
        try:
            if remote.host == PUBLIC_NOMINATIM:
                raise UserError(
                    f"{remote.host} forbids bulk use; set reward.geocoder.nominatim.url to your own server"
                )
            await remote.check()
        finally:
            await remote.close()


def query_text(address: Address) -> str:
    """Turn ("Germany", "Bayern", "München") into "München, Bayern, Germany", the order that
    services expect."""
    return ", ".join(name for name in reversed(address) if name)


def seconds_to_reset(error: BaseException | None) -> float:
    """Return seconds until a spent quota is back: by the answer's X-RateLimit-Reset or rate.reset,
    else the next midnight UTC."""
    now, reset = time.time(), math.nan
    if isinstance(error, AdapterHTTPError):
        try:
            reset = float(
                (error.headers or {}).get("x-ratelimit-reset")
                or parse_json(error.text)["rate"]["reset"]
            )
        except (ValueError, TypeError, LookupError):
            pass
    return reset - now if now < reset < now + 40 * DAY_S else DAY_S - now % DAY_S


def _code(error: BaseException) -> int:
    """Return the HTTP status behind one of geopy's errors; 0 where there was none."""
    return getattr(error.__cause__, "status_code", 0)
