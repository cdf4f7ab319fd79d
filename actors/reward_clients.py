"""The clients through which a Scorer asks the reward services on Ray Serve. They turn every failure
of Ray, Serve or a replica into InfraError."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from actors.chunking import Chunker
from geoagent_rl.geo.match import Match
from geoagent_rl.rewards.services import Address, JudgeItem, LevelPair, Similarity, Verdict
from geoagent_rl.types import InfraError


class _Client:
    """Calls of one Serve deployment, collected into chunks, with one chunker per method."""

    def __init__(
        self,
        handle: DeploymentHandle[Any],
        timeout_s: float,
        max_chunk: int = 64,
        parallel: int = 64,
    ) -> None:
        self.handle, self.timeout_s = handle, timeout_s
        self.max_chunk, self.parallel = max_chunk, parallel
        self._chunkers: dict[str, Chunker] = {}

    async def close(self) -> None:
        for chunker in self._chunkers.values():
            await chunker.close()

    async def _ask(self, method: str, questions: Sequence[Any]) -> list[Any]:
        if method not in self._chunkers:
            self._chunkers[method] = Chunker(
                lambda chunk: self._call(method, chunk), self.max_chunk, self.parallel
            )
        return await self._chunkers[method].ask(questions)

    async def _call(self, method: str, chunk: list[Any]) -> list[Any]:
        response: Any = None
        try:
            async with asyncio.timeout(self.timeout_s):
                response = getattr(self.handle, method).remote(chunk)
                answers: list[Any] = await response
                return answers
        except TimeoutError:
            response.cancel()
            raise InfraError(f"{method}: no answer within {self.timeout_s:.3g} s") from None
        except (RayError, RayServeException) as error:
            raise InfraError(f"{method}: {line_of(error)}") from error


class GeoEmbedClient(_Client):
    """Geocoder and Semantic of rewards/services.py."""

    async def geocode(self, addresses: Sequence[Address]) -> list[Match | None]:
        """Return a Match or None (no such place) per address."""
        return await self._ask("geocode", addresses)

    async def similarities(self, pairs: Sequence[LevelPair]) -> list[Similarity]:
        """Return the similarity of each pair of names."""
        return await self._ask("similarities", pairs)

    async def same_place(self, pairs: Sequence[LevelPair]) -> list[bool]:
        """Say of each pair whether both names mean one place."""
        return await self._ask("same_place", pairs)


class JudgeClient(_Client):
    """Judge of rewards/services.py."""

    async def judge(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Return a verdict per item."""
        return await self._ask("judge", items)


def line_of(error: BaseException) -> str:
    """Return the kind and the most telling line of an error; Ray's own carry whole stack traces."""
    return f"{type(error).__name__}: {last_line(str(getattr(error, 'cause', None) or error))}"


def last_line(text: str) -> str:
    """Return the last line that is not empty, cut to 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "")[:300]
