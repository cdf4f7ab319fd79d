"""Reading a YAML file or an override into mappings, lists and texts.

The schema says what a value is, not YAML: plain scalars stay the text that was written until the
schema's type reads them, so that run.dir=20241126_01, 010, 12:30 and on are names of directories.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from geoagent_rl.config.describe import at
from geoagent_rl.config.packaged import packaged
from geoagent_rl.types import UserError


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
    """Return what a YAML file holds, scalars as text. Raises UserError.

    configs/... is also looked for in the package.
    """
    try:
        text = packaged(Path(path).expanduser()).read_text(encoding="utf-8-sig")
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


def overridden(name: str, overrides: Sequence[str]) -> str:
    """Return the path that the overrides set `name` to, "" where they do not."""
    found = [value for key, value in map(parsed, overrides) if key == name]
    return os.path.expanduser(found[-1]) if found else ""  # noqa: PTH111 (as it is written)
