"""Rewards of the user's own: functions named in the configuration (reward.custom), parts like the
built-in ones.

A reward is `async def name(prompt, rollout, parsed, services) -> Outcome`. It is retried on
InfraError, bounded by the deadline, weighted, explained and charted as every part is.
docs/rewards.md has one. May know nothing of what they do."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.types import Outcome, UserError

if TYPE_CHECKING:
    from geoagent_rl.answers.parse import Parsed
    from geoagent_rl.rewards.services import Services
    from geoagent_rl.types import Prompt, Rollout

    Part = Callable[[Prompt, Rollout, Parsed], Awaitable[Outcome]]


def parts(config: RewardConfig, services: Services) -> dict[str, Part]:
    """The functions of reward.custom, by name. Raises UserError for one that cannot be imported."""
    found = {name: _named(name, own.function) for name, own in config.custom.items()}
    return {
        name: functools.partial(function, services=services) for name, function in found.items()
    }


def _named(name: str, function: str) -> Callable[..., Awaitable[Outcome]]:
    module, _, attribute = function.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"reward.custom.{name}.function: {function!r} cannot be imported ({error}); write module:function and put "
            "the module's folder on PYTHONPATH"
        ) from None
