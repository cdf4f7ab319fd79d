"""The reward parts by name: those built in, each a file of this package and one entry here, and
those of the user's own.

A built-in part is `async def score(prompt, rollout, parsed, services, config) -> Outcome`, with the
whole reward section as `config`; a custom one is the same without `config`. Its weight is a key of
reward.weights (config/reward.py). Metrics, report and monitor take the names from what a run has
scored."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.rewards import consistency, custom, exact_match, semantic, spatial
from geoagent_rl.rewards import format as format_part
from geoagent_rl.rewards.services import Services
from geoagent_rl.types import Outcome, Prompt, Rollout

if TYPE_CHECKING:
    from geoagent_rl.answers.parse import Parsed

    Bound = Callable[[Prompt, Rollout, Parsed], Awaitable[Outcome]]


class Part(Protocol):
    """A built-in part."""

    async def __call__(
        self,
        prompt: Prompt,
        rollout: Rollout,
        parsed: Parsed,
        services: Services,
        config: RewardConfig,
    ) -> Outcome:
        """Return the part's outcome for one rollout."""
        ...


PARTS: dict[str, Part] = {
    "spatial": spatial.score,
    "semantic": semantic.score,
    "consistency": consistency.score,
    "format": format_part.score,
    "answer_format": format_part.score_answer,
    "exact_match": exact_match.score,
}


def bound(config: RewardConfig, services: Services) -> dict[str, Bound]:
    """Return every part by name, built-in and custom, ready to be asked about a rollout. Raises
    UserError for a function of reward.custom that cannot be imported.
    """
    built_in: dict[str, Bound] = {
        name: functools.partial(part, services=services, config=config)
        for name, part in PARTS.items()
    }
    own: dict[str, Bound] = {
        name: functools.partial(function, services=services)
        for name, function in custom.functions(config).items()
    }
    return built_in | own
