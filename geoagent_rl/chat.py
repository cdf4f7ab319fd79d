"""A client of OpenAI-style endpoints (/v1/chat/completions): one request, and how it failed.

Who asks decides what is tried again and when. Keys stay out of messages. May know nothing of what
is asked."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from geoagent_rl.network import is_loopback

# The statuses of trouble that may pass; any other but 200 says that the request is refused.
PASSING = frozenset((408, 409, 425, 429, 500, 502, 503, 504))


class Unanswered(Exception):
    """A request that brought no answer of the documented shape.

    status: of HTTP, 0 where there was none. retry_after: seconds that the service asks to wait, or
    None. said: the beginning of a refusal's text."""

    def __init__(
        self, what: str, status: int = 0, retry_after: float | None = None, said: str = ""
    ):
        super().__init__(what)
        self.status, self.retry_after, self.said = status, retry_after, said

    @property
    def refused(self) -> bool:
        """Say whether the same request would be refused again."""
        return self.status not in (0, 200) and self.status not in PASSING


class Chat:
    """One endpoint and one key ("": none). Use it from one event loop, and `aclose` it there."""

    def __init__(self, url: str, key: str = "", timeout_s: float = 60.0):
        """url: the API's base, as in http://127.0.0.1:8000/v1; network.service_address checks
        it."""
        self._url, self._key, self._timeout_s = (
            f"{url.rstrip('/')}/chat/completions",
            key,
            timeout_s,
        )
        self._client = httpx.AsyncClient(
            timeout=timeout_s,
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=not is_loopback(urlsplit(url).hostname or ""),  # proxies
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, body: Mapping[str, Any]) -> str:
        """Return the text of the first choice ("" where it has none). Raises Unanswered."""
        try:
            async with asyncio.timeout(self._timeout_s):  # httpx limits each read alone
                answer = await self._client.post(self._url, content=json.dumps(body).encode())
        except TimeoutError:
            raise Unanswered(f"Timeout: no answer within {self._timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise Unanswered(f"{type(error).__name__} {error}".strip()) from None
        if answer.status_code != 200:
            wait_s = seconds_to_wait(answer.headers.get("Retry-After", ""))
            said = " ".join(answer.text.split())[:200].replace(self._key or "\0", "...")
            raise Unanswered(f"HTTP {answer.status_code}", answer.status_code, wait_s, said)
        try:
            text = answer.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            raise Unanswered("HTTP 200 without the documented answer", 200) from None
        return text if isinstance(text, str) else ""


def seconds_to_wait(retry_after: str) -> float | None:
    """Return what a Retry-After header asks for, seconds or a date; None where it says neither."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if abs(seconds) < float("inf") else None
