"""Rewards of the user's own: functions named in the configuration (reward.custom), parts like the
built-in ones.

A reward is `async def name(prompt, rollout, parsed, services) -> Outcome`. It is retried on
InfraError, bounded by the deadline, weighted, explained and charted as every part is.
docs/rewards.md has one. May know nothing of what they do."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.types import Outcome, UserError


def functions(config: RewardConfig) -> dict[str, Callable[..., Awaitable[Outcome]]]:
    """Return the functions of reward.custom by name. Raises UserError for one that cannot be
    imported.
    """
    return {name: _plain(name, _named(name, own.function)) for name, own in config.custom.items()}


def _plain(
    name: str, function: Callable[..., Awaitable[Outcome]]
) -> Callable[..., Awaitable[Outcome]]:
    """Make every outcome of a user's function one of plain types, which records and checkpoints
    can hold. InfraError, naming the part, for what is no Outcome."""

    async def score(*args: Any, **kwargs: Any) -> Outcome:
        found: Any = function(*args, **kwargs)
        if not inspect.isawaitable(found):
            raise TypeError(f"reward.custom.{name} is no `async def`")
        outcome: Any = await found
        if not isinstance(outcome, Outcome):
            kind = type(outcome).__name__
            raise TypeError(f"reward.custom.{name} returned {kind}, not an Outcome")
        number = None if outcome.score is None else float(outcome.score)
        return Outcome(outcome.kind, number, text_of(outcome.reason), plain(outcome.details))

    return score


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers of libraries as numbers, sets as lists, what is none
    of JSON's as a text."""
    if isinstance(value, Mapping):
        return {text_of(key): plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):  # numpy and torch, scalars too
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return text_of(value)


def text_of(value: Any) -> str:
    """Return a text that UTF-8 can write."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _named(name: str, function: str) -> Callable[..., Awaitable[Outcome]]:
    module, _, attribute = function.partition(":")
    try:
        found: Callable[..., Awaitable[Outcome]] = getattr(
            importlib.import_module(module), attribute
        )
        return found
    except Exception as error:  # noqa: BLE001 (a user's module raises what it likes)
        raise UserError(
            f"reward.custom.{name}.function: {function!r} cannot be imported ({error}); write module:function and put "
            "the module's folder on PYTHONPATH"
        ) from None
