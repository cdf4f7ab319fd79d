"""Rewards of the user's own: functions named in the configuration (reward.custom), parts like the
built-in ones.

A reward is `async def name(prompt, rollout, parsed, services) -> Outcome`. It is retried on
InfraError, bounded by the deadline, weighted, explained and charted as every part is.
docs/rewards.md has one. May know nothing of what they do."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable

from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.types import Outcome, UserError


def functions(config: RewardConfig) -> dict[str, Callable[..., Awaitable[Outcome]]]:
    """Return the functions of reward.custom by name. Raises UserError for one that cannot be
    imported.
    """
    return {name: _named(name, own.function) for name, own in config.custom.items()}


def _named(name: str, function: str) -> Callable[..., Awaitable[Outcome]]:
    module, _, attribute = function.partition(":")
    try:
        found: Callable[..., Awaitable[Outcome]] = getattr(
            importlib.import_module(module), attribute
        )
        return found
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"reward.custom.{name}.function: {function!r} cannot be imported ({error}); write module:function and put "
            "the module's folder on PYTHONPATH"
        ) from None
