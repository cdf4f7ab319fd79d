"""Score one rollout: all parts at once, each retried on infrastructure failures until the sample's
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

from geoagent_rl.answers.forms import read
from geoagent_rl.answers.parse import Parsed
from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.config.schedule import at_version
from geoagent_rl.rewards import parts
from geoagent_rl.rewards.services import Services
from geoagent_rl.rewards.total import part_weights, total
from geoagent_rl.types import AnswerForm, InfraError, Outcome, Prompt, Rollout, ScoredRollout

FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.1, 5.0


class Scorer:
    """Stateless apart from its services; any number of samples may be scored at once.

    form: what an answer looks like. Numbers that follow the step (reward.schedules) are those of
    the updates that the rollout's policy has had, its version. Raises UserError for a reward of
    reward.custom that cannot be imported.
    """

    def __init__(self, services: Services, config: RewardConfig, form: AnswerForm = "levels"):
        self.services = services
        self.config = config
        self.form = form
        self.parts = parts.bound(config, services)

    async def score(self, prompt: Prompt, rollout: Rollout) -> ScoredRollout:
        """Return every part in play, and the total (None: unscorable). Details hold `seconds` and
        `attempts` per part.
        """
        if self.config.schedules:
            return await self.at(rollout.version).score(prompt, rollout)
        deadline = time.monotonic() + self.config.deadline_s
        names = list(part_weights(self.config))
        try:
            parsed = read(rollout.text, self.form)
        except Exception as error:  # noqa: BLE001 (our bug, not the answer's fault)
            outcomes = [Outcome("infra", None, f"the parser failed: {error!r}")] * len(names)
        else:
            outcomes = await asyncio.gather(
                *(self._part(name, prompt, rollout, parsed, deadline) for name in names)
            )
        found = dict(zip(names, outcomes, strict=True))
        return ScoredRollout(rollout, found, total(found, self.config))

    def at(self, version: int) -> Scorer:
        """Return the scorer whose numbers are those of a policy version."""
        return Scorer(self.services, at_version(self.config, version), self.form)

    async def _part(
        self, name: str, prompt: Prompt, rollout: Rollout, parsed: Parsed, deadline: float
    ) -> Outcome:
        """One part with attempts, backoff and deadline. A bug in a part is an infra failure at
        once.
        """
        start, attempts, backoff = time.monotonic(), 0, FIRST_BACKOFF_S
        while True:
            attempts += 1
            remaining = deadline - time.monotonic()
            try:
                async with asyncio.timeout(min(self.config.attempt_timeout_s, remaining)):
                    result = await self.parts[name](prompt, rollout, parsed)
                if result.score is not None and not math.isfinite(result.score):
                    raise InfraError(f"a service's answer gives the score {result.score}")
                break
            except InfraError as error:
                reason = str(error)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():  # we are meant
                    raise
                result = Outcome("infra", None, "CancelledError: the part cancelled itself")
                break
            except TimeoutError:
                reason = f"no answer within {min(self.config.attempt_timeout_s, remaining):.3g} s"
            # failure taxonomy: whatever else a part raises says nothing about the answer
            except Exception as error:  # noqa: BLE001 (a part never ends as an exception)
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
