"""Reading a configuration: defaults <- YAML file <- dotted overrides, checked once.

The schema says what a value is, not YAML: plain scalars stay the text that was written until the
schema's type reads them, so that run.dir=20241126_01, 010, 12:30 and on are names of directories.
`${section.key}` takes the value of another key. Nothing reads the environment: API keys never enter
the configuration, only the *names* of the environment variables that hold them.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from geoagent_rl.config.describe import Schema, at, flat, known_keys, words
from geoagent_rl.config.rules import validate
from geoagent_rl.config.schema import Config
from geoagent_rl.types import UserError

OPEN = "reward.custom."  # the user names what is under it
RESOLVER = re.compile(r"\$\{[^}]*:")  # as in ${oc.env:HOME}
# A value of these may hold a password by mistake: it is not repeated.
UNSHOWN = ("reward.cache.url", "reward.geocoder.opencage.api_key_env")


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
            check_keys(layer)
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


class _Loader(yaml.SafeLoader):
    """Safe YAML whose plain scalars stay text, but for null; a key given twice is an error."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag.endswith((":null", ":merge"))]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping; raise ConstructorError for a key that stands in it twice."""
        names = [key.value for key, _ in node.value if key.value != "<<"]
        for name in names:
            if isinstance(name, str) and names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def plain(text: str) -> Any:
    """Return what YAML text holds: mappings, lists, texts and None.

    Raises YAMLError or ValueError."""
    loader = _Loader(text)
    try:
        found = loader.get_single_data()
        json.dumps(found, default=str)  # raises ValueError for an alias that holds itself
        return found
    finally:
        loader.dispose()


def read(path: str | Path) -> dict[str, Any]:
    """Return what a YAML file holds, scalars as text. Raises UserError."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
        found = plain(text)
    except FileNotFoundError:
        raise UserError(f"no configuration file {path}; see configs/ for examples") from None
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    if found is not None and not isinstance(found, dict):
        raise UserError(f"{path} holds no section.key values; see configs/ for examples")
    return found or {}


def parsed(item: str) -> tuple[str, Any]:
    """Return (key, value) of "section.key=value". Only lists and sections are read as YAML.

    Quotes round the whole value are not part of it, so that key='' is empty."""
    name, equals, value = item.partition("=")
    if not equals or not name.strip():
        raise UserError(f"override {item!r} has no '='; write it as section.key=value")
    schema = at(name.strip())
    if schema and schema.get("type") != "string" and value.lstrip().startswith(("[", "{")):
        try:
            return name.strip(), plain(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            problem = " ".join(str(error).split())
            raise UserError(f"override {item!r} is not readable: {problem}") from None
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return name.strip(), value[1:-1] if quoted else value


def check_keys(layer: DictConfig) -> None:
    """Raise UserError for an unknown key, a value that asks a resolver and a list that is none."""
    known = known_keys()
    for name, value in flat(OmegaConf.to_container(layer)).items():
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


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known key that `name` probably means, "" where none is near."""
    leaves = [k for k in known if k.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = (leaves or close or [""])[0]
    return f"; did you mean {hint!r}?" if hint else ""


def explained(error: ValidationError, given: Any) -> str:
    """Return one line that names the key, what it must be and the value it was given."""
    first = error.errors()[0]
    name, value, schema = "", given, None
    for step in first["loc"]:
        inner = at(f"{name}.{step}" if name else str(step))
        if inner is None:
            break
        name, schema = f"{name}.{step}" if name else str(step), inner
        value = value.get(step) if isinstance(value, dict) else value
    if first["type"] == "unexpected_keyword_argument":
        key = ".".join(map(str, first["loc"]))
        return f"unknown configuration key {key!r}{nearest(key, known_keys())}"
    if first["type"] == "missing":
        return f"{name} must be given"
    return wrong(name, schema or {"type": "object"}, value)


def wrong(name: str, schema: Schema, value: Any) -> str:
    """Return one line that says what the key must be, and the value unless it may be a secret."""
    return f"{name} must be {words(schema)}" + ("" if name in UNSHOWN else f", not {shown(value)}")


def shown(value: Any) -> str:
    """Return a value as a person writes it, on one line."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    text = " ".join(str(value).split()) or "empty"
    return text if len(text) <= 100 else f"{text[:100]}..."
