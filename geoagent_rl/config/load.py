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

from geoagent_rl.config.describe import Schema, flat, json_schema, known_keys, part
from geoagent_rl.config.messages import explained, nearest, shown, wrong
from geoagent_rl.config.reading import parsed, read
from geoagent_rl.config.rules import validate
from geoagent_rl.config.schema import Config
from geoagent_rl.types import UserError

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # all but tab and newline
INTERPOLATION = r"(?<!\\)(?:\\\\)*\$\{"  # an odd number of backslashes makes "${" a text
RESOLVER = re.compile(INTERPOLATION + "[^}]*:")  # as in ${oc.env:HOME}


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of the defaults, a YAML file and "section.key=value" overrides.

    Raises UserError, in one line that names key and value, for a missing file, broken YAML, an
    unknown key (naming the nearest), a value out of range or values that contradict each other.
    """
    given = merged(path, overrides)
    try:
        config = TypeAdapter(Config).validate_python(given)
    except ValidationError as error:
        raise UserError(explained(error, given)) from None
    validate(config)
    return config


def to_yaml(config: Config) -> str:
    """Return the configuration as YAML, every key included; `load` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.create(literal(dataclasses.asdict(config))))


def literal(node: Any) -> Any:
    """Return mappings, lists and texts such that OmegaConf takes every "${" as a text."""
    if isinstance(node, dict):
        return {name: literal(inner) for name, inner in node.items()}
    if isinstance(node, list | tuple):
        return [literal(inner) for inner in node]
    if isinstance(node, str):
        return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", node)
    return node


def merged(path: str | Path | None, overrides: Sequence[str]) -> Any:
    """Return the defaults with what file and overrides say, all known keys, types not checked."""
    try:
        layers = [OmegaConf.create(read(path))] if path is not None else []
        layers.append(OmegaConf.create())
        for item in overrides:
            OmegaConf.update(layers[-1], *parsed(item), force_add=True)
        for layer in layers:
            check_layer(OmegaConf.to_container(layer), json_schema())
        defaults = OmegaConf.create(literal(dataclasses.asdict(Config())))
        return OmegaConf.to_container(OmegaConf.merge(defaults, *layers), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"configuration: {str(error).splitlines()[0]}") from None


def check_layer(layer: Any, schema: Schema, prefix: str = "") -> None:
    """Raise UserError for an unknown key, or a section, list or text that is none or not allowed.

    What OmegaConf cannot merge is refused here, where the key is known."""
    for name, value in layer.items():
        dotted, node = f"{prefix}{name}", part(schema, name)
        if node is None:
            dotted = next(iter(flat({name: value}, prefix)))
            raise UserError(f"unknown configuration key {dotted!r}{nearest(dotted, known_keys())}")
        kind = node.get("type")
        if kind == "object" and isinstance(value, dict):
            check_layer(value, node, f"{dotted}.")
            continue
        check_texts(dotted, value)
        if isinstance(value, str) and re.search(INTERPOLATION, value):
            continue
        if kind == "object" or isinstance(value, dict):
            raise UserError(wrong(dotted, node, value))
        if kind == "array" and not isinstance(value, list):
            raise UserError(wrong(dotted, node, value))


def check_texts(dotted: str, value: Any) -> None:
    """Raise UserError for a text that asks a resolver or that no file can hold."""
    if isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            check_texts(dotted, inner)
    elif isinstance(value, str) and RESOLVER.search(value):
        raise UserError(
            f"{dotted}={shown(value)}: nothing is taken from the environment; write the value itself, "
            'or let the shell fill it in: key="$NAME"'
        )
    elif isinstance(value, str) and CONTROL.search(value):
        raise UserError(f"{dotted} must be text without control characters, not {value[:100]!a}")
