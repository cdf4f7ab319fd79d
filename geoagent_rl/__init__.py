"""The method: everything that needs no cluster. Imports no ray, vllm, deepspeed or redis.

`import geoagent_rl as ga` offers what api.py names; that is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoagent_rl.api import Run, evaluate, geocode, load_config, predict, runs, score

__all__ = ["Run", "evaluate", "geocode", "load_config", "predict", "runs", "score"]


def __getattr__(name: str) -> Any:
    """Load a name of api.py."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("geoagent_rl.api"), name)


def __dir__() -> list[str]:
    """Name what there is, for completion in notebooks."""
    return sorted({*globals(), *__all__})
