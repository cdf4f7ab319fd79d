"""Loading a configuration: defaults <- YAML file <- dotted overrides, checked once.

`${section.key}` takes the value of another key. Nothing reads the environment: API keys never enter
the configuration, only the *names* of the environment variables that hold them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from geoagent_rl.config.describe import at, flat, known_keys
from geoagent_rl.config.messages import explained, nearest, wrong
from geoagent_rl.config.reading import parsed, read
from geoagent_rl.config.rules import validate
from geoagent_rl.config.schema import Config
from geoagent_rl.types import UserError

OPEN = "reward.custom."  # the user names what is under it
RESOLVER = re.compile(r"\$\{[^}]*:")  # as in ${oc.env:HOME}


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of the defaults, a YAML file and "section.key=value" overrides.

    Raises UserError, in one line that names key and value, for a missing file, broken YAML, an
    unknown key (naming the nearest), a value out of range or values that contradict each other.
    """
    try:
        layers = [OmegaConf.create(read(path))] if path is not None else []
        layers.append(OmegaConf.create())
        for item in overrides:
            OmegaConf.update(layers[-1], *parsed(item), force_add=True)
        for layer in layers:
            check_layer(OmegaConf.to_container(layer))
        defaults = OmegaConf.create(dataclasses.asdict(Config()))
        merged = OmegaConf.to_container(OmegaConf.merge(defaults, *layers), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"configuration: {str(error).splitlines()[0]}") from None
    try:
        config = TypeAdapter(Config).validate_python(merged)
    except ValidationError as error:
        raise UserError(explained(error, merged)) from None
    validate(config)
    return config


def to_yaml(config: Config) -> str:
    """Return the configuration as YAML, every key included; `load` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))


def check_layer(layer: Any) -> None:
    """Raise UserError for an unknown key, a value that asks a resolver and a list that is none."""
    known = known_keys()
    for name, value in flat(layer).items():
        schema = at(name)
        if name not in known and not name.startswith(OPEN):
            raise UserError(f"unknown configuration key {name!r}{nearest(name, known)}")
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and RESOLVER.search(text):
                raise UserError(
                    f"{name}={text}: nothing is taken from the environment; write the value itself, "
                    'or let the shell fill it in: key="$NAME"'
                )
        # OmegaConf merges no text into a list, and its message does not name the key.
        if schema and schema.get("type") == "array" and not isinstance(value, list):
            if not (isinstance(value, str) and "${" in value):
                raise UserError(wrong(name, schema, value))
