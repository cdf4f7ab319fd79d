"""Fake reward services whose answers are known in advance, and completions that earn known
scores.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

from geoagent_rl.answers.parse import Stage, render
from geoagent_rl.rewards.services import Services, Similarity, Verdict
from geoagent_rl.types import Prompt, Rollout, Truth

PROMPT = Prompt("u", "/photo.jpg", Truth("Germany", "Bayern", "München", 48.0, 11.0))
LEVELS = ("Germany", "Bavaria", "Munich")


def completion(levels=LEVELS, conclusions=LEVELS, characters=300):
    stages = tuple(Stage(("clue",), f"{c}: ".ljust(characters, "x"), c, "Low") for c in conclusions)
    return render(stages, levels)


def rollout(text=None, index=0):
    return Rollout(
        "u", index, (1,), (2,), (-0.1,), completion() if text is None else text, "stop", 0
    )


class Fakes:
    """Geocoder, semantic service and judge in one. `before(kind)` runs first: it may raise, wait or
    return garbage.
    """

    def __init__(self, before=None):
        self.before = before
        self.calls = Counter()

    async def _enter(self, kind):
        self.calls[kind] += 1
        if self.before is not None:
            result = self.before(kind)
            return await result if asyncio.iscoroutine(result) else result

    async def geocode(self, addresses):
        garbage = await self._enter("geocode")
        found = [SimpleNamespace(lat=48.0, lon=11.0, level="place", name="Munich", admin1="Bavaria", country_code="DE",
                                 provider="fake") if a[0] == "Germany" else None for a in addresses]  # fmt: skip
        return found if garbage is None else garbage

    async def similarities(self, pairs):
        garbage = await self._enter("similarities")
        known = {("Bavaria", "Bayern"): 0.8, ("Munich", "München"): 0.9}
        found = [
            Similarity(1.0 if p.a == p.b else known.get((p.a, p.b), 0.0), "encoder") for p in pairs
        ]
        return found if garbage is None else garbage

    async def same_place(self, pairs):
        garbage = await self._enter("same_place")
        same = [p.a == p.b or {p.a, p.b} == {"Bavaria", "Bayern"} for p in pairs]
        return same if garbage is None else garbage

    async def judge(self, items):
        garbage = await self._enter("judge")
        return (
            [Verdict(i.reasoning.split(":")[0], 0.0) for i in items] if garbage is None else garbage
        )

    @property
    def services(self):
        return Services(self, self, self)
