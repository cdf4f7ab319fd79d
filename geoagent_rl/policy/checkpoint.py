"""Where a policy's checkpoint lies. Imports nothing heavy: a driver asks, and loads no model."""

from __future__ import annotations

from pathlib import Path


def checkpoint_dir(model: str) -> Path:
    """Return the directory of a checkpoint's files: `model` itself, or the snapshot of a hub name
    in the local cache, downloaded where it is not there. Raises OSError where there is none.
    """
    if Path(model).is_dir():
        return Path(model)
    from transformers.utils.hub import cached_file

    return Path(cached_file(model, "config.json")).parent
