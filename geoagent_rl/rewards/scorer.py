"""Scores one rollout: all parts at once, each retried on infrastructure failures until the sample's
deadline.

A part ends as a score, a data failure or an infra Outcome, never as an exception and never as a
made-up number. Only cancellation leaves `score`. Works against the protocols of services.py. May
know nothing of Ray or Redis."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from geoagent_rl.answers.hedge import without_hedges
from geoagent_rl.answers.parse import Parsed, parse
from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.rewards import consistency, custom, exact_match, semantic, spatial
from geoagent_rl.rewards import format as format_part
from geoagent_rl.rewards.services import Services, Similarity, Verdict
from geoagent_rl.rewards.total import part_weights, total
from geoagent_rl.types import InfraError, Outcome, Prompt, Rollout, ScoredRollout

if TYPE_CHECKING:
    from geoagent_rl.geo.gazetteer import Match

FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.1, 5.0
Q, A = TypeVar("Q"), TypeVar("A")


class Scorer:
    """Stateless apart from its services; any number of samples may be scored at once.

    Raises UserError for a reward of reward.custom that cannot be imported.
    """

    def __init__(self, services: Services, config: RewardConfig):
        self.services = services
        self.config = config
        self.own = custom.parts(config, services)

    async def score(self, prompt: Prompt, rollout: Rollout) -> ScoredRollout:
        """Every part in play, and the total (None: unscorable). Details hold `seconds` and
        `attempts` per part.
        """
        deadline = time.monotonic() + self.config.deadline_s
        names = list(part_weights(self.config))
        try:
            parsed = parse(rollout.text)
        except Exception as error:  # failure taxonomy: our bug, not the answer's fault
            outcomes = [Outcome("infra", None, f"the parser failed: {error!r}")] * len(names)
        else:
            outcomes = await asyncio.gather(
                *(self._part(name, prompt, rollout, parsed, deadline) for name in names)
            )
        parts = dict(zip(names, outcomes, strict=True))
        return ScoredRollout(rollout, parts, total(parts, self.config))

    async def _part(
        self, name: str, prompt: Prompt, rollout: Rollout, parsed: Parsed, deadline: float
    ) -> Outcome:
        """One part with attempts, backoff and deadline. A bug in a part is an infra failure at
        once.
        """
        work: Callable[[Prompt, Rollout, Parsed], Awaitable[Outcome]] = self.own.get(
            name
        ) or getattr(self, f"_{name}")
        start, attempts, backoff = time.monotonic(), 0, FIRST_BACKOFF_S
        while True:
            attempts += 1
            remaining = deadline - time.monotonic()
            try:
                async with asyncio.timeout(min(self.config.attempt_timeout_s, remaining)):
                    result = await work(prompt, rollout, parsed)
                if not math.isfinite(result.score):
                    raise InfraError(f"a service's answer gives the score {result.score}")
                break
            except InfraError as error:
                reason = str(error)
            except TimeoutError:
                reason = f"no answer within {min(self.config.attempt_timeout_s, remaining):.3g} s"
            # failure taxonomy: whatever else a part raises says nothing about the answer
            except Exception as error:
                result = Outcome("infra", None, f"{type(error).__name__}: {error}")
                break
            wait = backoff * random.uniform(0.5, 1.0)
            if time.monotonic() + wait >= deadline:
                result = Outcome("infra", None, reason)
                break
            await asyncio.sleep(wait)  # backoff, so that a service that is down is not hammered
            backoff = min(2 * backoff, LAST_BACKOFF_S)
        details = {**result.details, "seconds": time.monotonic() - start, "attempts": attempts}
        return dataclasses.replace(result, details=details)

    async def _format(self, prompt: Prompt, rollout: Rollout, parsed: Parsed) -> Outcome:
        return format_part.outcome(parsed, rollout.text, self.config.format)

    async def _answer_format(self, prompt: Prompt, rollout: Rollout, parsed: Parsed) -> Outcome:
        return format_part.answer_outcome(rollout.text)

    async def _spatial(self, prompt: Prompt, rollout: Rollout, parsed: Parsed) -> Outcome:
        levels = without_hedges(parsed.levels)
        true = (
            without_hedges(prompt.truth.levels) if self.config.spatial.truth == "geocoded" else ()
        )
        match, true_match = await self._geocode(levels, true)
        return spatial.outcome(levels, match, prompt.truth, self.config.spatial, true_match)

    async def _exact_match(self, prompt: Prompt, rollout: Rollout, parsed: Parsed) -> Outcome:
        levels, config = without_hedges(parsed.levels), self.config.exact_match
        (match,) = await self._geocode(levels) if config.style == "gre" else (None,)
        return exact_match.outcome(levels, match, prompt.truth, config)

    async def _geocode(self, *addresses: tuple[str, ...]) -> list[Match | None]:
        """None for an address without names, which nobody is asked about, and for one that is no
        place.
        """
        asked = [address if any(address) else None for address in addresses]
        return await _ask(self.services.geocoder and self.services.geocoder.geocode, asked, object)

    async def _semantic(self, prompt: Prompt, rollout: Rollout, parsed: Parsed) -> Outcome:
        pairs = semantic.pairs(parsed.levels, prompt.truth.levels)
        found = await _ask(
            self.services.semantic and self.services.semantic.similarities, pairs, Similarity
        )
        return semantic.outcome(parsed.levels, prompt.truth.levels, found, self.config.semantic)

    async def _consistency(self, prompt: Prompt, rollout: Rollout, parsed: Parsed) -> Outcome:
        config = self.config.consistency
        targets = consistency.targets(parsed.stages, prompt.truth.levels, config)
        questions = consistency.questions(parsed.stages, targets, config)
        verdicts = await _ask(self.services.judge and self.services.judge.judge, questions, Verdict)
        pairs = consistency.comparisons(targets, verdicts, config)
        same = await _ask(self.services.semantic and self.services.semantic.same_place, pairs, bool)
        return consistency.outcome(parsed, targets, verdicts, same, config)


async def _ask(
    service: Callable[[list[Q]], Awaitable[list[A]]] | None, items: Sequence[Q | None], kind: type
) -> list[A | None]:
    """Asks only the items that are not None; the answers stay aligned with `items`.

    Raises InfraError when there are not as many answers as questions or one is not of the agreed
    kind."""
    asked = [item for item in items if item is not None]
    answers = await service(asked) if asked else []
    if len(answers) != len(asked):
        raise InfraError(f"a service answered {len(answers)} of {len(asked)} questions")
    strange = [answer for answer in answers if not isinstance(answer, kind)]
    if strange:
        raise InfraError(
            f"a service answered {str(strange[0])[:80]!r} where a {kind.__name__} was due"
        )
    left = iter(answers)
    return [None if item is None else next(left) for item in items]
