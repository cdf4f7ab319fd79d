"""The judge at an OpenAI-style endpoint (judge.endpoint): the same prompt, form and reading of the
answer as the engine's, and the limits and failures of a remote geocoder.

A verdict is an HTTP 200 whose text has the agreed form. Everything else is an InfraError and never
a verdict: 429 (the key rests for Retry-After), 402 (until the next day), 401 and 403 (ten minutes),
other codes, timeouts, and text of another form. 429, 402, 401 and 403 move the question on to the
next key. May know nothing of caches, Redis or engines."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from geoagent_rl.chat import Chat, Unanswered
from geoagent_rl.config.reward import JudgeConfig
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
from geoagent_rl.network import service_address
from geoagent_rl.rewards.consistency_prompt import EXAMPLES, FORM, messages, question, read_answer
from geoagent_rl.rewards.services import JudgeItem, Verdict
from geoagent_rl.secrets import required_secret
from geoagent_rl.types import InfraError, UserError

# With a grammar the server is one that renders chat templates, and knows this; services do not.
GRAMMARS: dict[str, dict[str, Any]] = {
    "structured_outputs": {"structured_outputs": {"regex": FORM}},
    "guided_regex": {"guided_regex": FORM},
    "none": {},
}
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}


class EndpointJudge:
    """The endpoint with all its keys. Use it from one event loop, and `aclose` it there.

    Raises UserError for a key that the environment does not have."""

    def __init__(
        self, judge: JudgeConfig, environ: Mapping[str, str], limiter: RateLimiter | None = None
    ):
        endpoint = judge.endpoint
        self.key_names, self.model = endpoint.api_key_env, endpoint.model
        keys = [
            required_secret(environ, name, "judge.endpoint.api_key_env") for name in self.key_names
        ] or [""]
        self.host = endpoint_host(judge)
        self._body = request_body(judge)
        self._chats = [Chat(endpoint.url, key, endpoint.timeout_s) for key in keys]
        self._turns = Turns(
            f"judge {self.model} ({self.host})",
            [limited_key("judge", self.host, key) for key in keys],
            Limit(endpoint.rate_per_s, endpoint.daily_budget, endpoint.longest_wait_s),
            endpoint.in_flight,
            limiter,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        for chat in self._chats:
            await chat.aclose()

    async def judge(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Return a verdict for each item, in order. Raises InfraError."""
        return list(await asyncio.gather(*map(self.verdict, items)))

    async def verdict(self, item: JudgeItem) -> Verdict:
        """Return the conclusion of one stage; the seconds include the wait for a turn. Raises
        InfraError.
        """
        begin = time.monotonic()
        conclusion = await self._turns.ask(partial(self._request, item))
        return Verdict(conclusion, time.monotonic() - begin, self.model)

    async def check_health(self) -> None:
        """Be always healthy: another replica would not mend an endpoint."""

    def stop(self) -> None:
        """End nothing: there is no process of its own."""

    async def _request(self, item: JudgeItem, i: int) -> str:
        """One request with key i. Raises KeyRests and InfraError."""
        try:
            return await self._ask(item, i)
        except Unanswered as error:
            if error.status == 429:
                wait_s = PAUSE_429_S if error.retry_after is None else error.retry_after
                raise KeyRests("asked to wait (429)", wait_s) from None
            if error.status == 402:
                spent = f"the quota of {self._name(i)} is used up (402)"
                raise KeyRests(spent, DAY_S - time.time() % DAY_S) from None
            if error.status in (401, 403):
                refused = f"{self._name(i)} is refused ({error.status})"
                raise KeyRests(refused, PAUSE_REFUSED_S) from None
            raise self._failure(str(error)) from None
        except ValueError as error:
            raise self._failure(str(error)) from None

    async def _ask(self, item: JudgeItem, i: int) -> str:
        """One request. Raises Unanswered, and ValueError for an answer of another form."""
        body = self._body | {"messages": messages(question(item))}
        return read_answer(await self._chats[i].ask(body))

    async def check(self) -> None:
        """Ask once with each key, so that a run stops at its start and not at its limit of
        unscorable samples.

        Raises UserError for what the user must mend, InfraError when no key gets an answer."""
        failures = []
        for i in range(len(self._chats)):
            try:
                await self._ask(EXAMPLES[0][0], i)
            except Unanswered as error:
                if error.refused and error.status != 402:
                    raise UserError(
                        f"{self.host} refuses the judge's request with {self._name(i)} ({error}: {error.said}); "
                        "check judge.endpoint.url, .model, .api_key_env and .grammar"
                    ) from None
                if error.status != 429:  # then the key works
                    failures.append(str(error))
            except ValueError as error:
                raise UserError(
                    f"{self.model} at {self.host}: {error}; set judge.endpoint.grammar to what the server knows, "
                    "or name a model that keeps to the form"
                ) from None
        if len(failures) == len(self._chats):
            raise InfraError(
                f"judge {self.model} ({self.host}): {failures[0]}; judge.endpoint.url must answer"
            )

    def _name(self, i: int) -> str:
        return f"the key in {self.key_names[i]}" if self.key_names else f"{self.host}'s access"

    def _failure(self, what: str) -> InfraError:
        return InfraError(f"judge {self.model} ({self.host}): {what}")


def endpoint_host(judge: JudgeConfig) -> str:
    """Return host, port and path of judge.endpoint.url. Raises UserError."""
    endpoint = judge.endpoint
    parts = service_address("judge.endpoint.url", endpoint.url, bool(endpoint.api_key_env))
    return parts.netloc + parts.path.rstrip("/")


def request_body(judge: JudgeConfig) -> dict[str, Any]:
    """Return what all requests have in common."""
    endpoint = judge.endpoint
    grammar = GRAMMARS[endpoint.grammar]
    return {
        "model": endpoint.model,
        "temperature": 0,
        "max_tokens": judge.max_tokens,
        **grammar,
        **(NO_THINKING if grammar else {}),
    }


def endpoint_version(judge: JudgeConfig) -> str:
    """Name all that a verdict of the endpoint depends on, for a cache: server, model, prompt,
    limits.
    """
    asked = [messages("{question}"), request_body(judge)]
    digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:16]
    return f"{endpoint_host(judge)}:{judge.endpoint.model}:{digest}"


async def check(judge: JudgeConfig, environ: Mapping[str, str]) -> None:
    """Ask every key of the endpoint once, before a run starts anything; nothing without an
    endpoint. Raises UserError, InfraError.
    """
    if not judge.endpoint.url:
        return
    asked = EndpointJudge(judge, environ)
    try:
        await asked.check()
    finally:
        await asked.aclose()
