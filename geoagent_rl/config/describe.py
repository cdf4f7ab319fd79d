"""The configuration's JSON schema, and what is said of a key: all of it is read from the sections.

Editors check files with the schema (`geoagent-rl config schema`); messages and the reference are
made from it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from geoagent_rl.config.schema import Config

Schema = dict[str, Any]


class _Finite(GenerateJsonSchema):
    """JSON schemas whose numbers are finite: YAML has .nan and .inf, which JSON does not know."""

    def float_schema(self, schema: Any) -> Schema:
        limits = {"minimum": -sys.float_info.max, "maximum": sys.float_info.max}
        found = super().float_schema(schema)
        if "exclusiveMinimum" in found:
            del limits["minimum"]
        if "exclusiveMaximum" in found:
            del limits["maximum"]
        # No number is both above 1 and below 0; nan, which no comparison excludes, passes as both.
        return limits | found | {"not": {"minimum": 1, "maximum": 0}}


@functools.cache
def json_schema() -> Schema:
    """Return the JSON schema (draft 2020-12) of a configuration file, sections inlined."""
    made = TypeAdapter(Config).json_schema(schema_generator=_Finite)
    named = made.pop("$defs")

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(part) for part in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(named[node["$ref"].rsplit("/", 1)[-1]])
        # A property may be called title; the titles that pydantic adds are texts.
        kept = {k: v for k, v in node.items() if k != "title" or not isinstance(v, str)}
        return {k: inline(v) for k, v in kept.items()}

    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of GeoAgent-RL",
    }
    whole: Schema = inline(made)
    return head | whole


def part(schema: Schema, name: str) -> Schema | None:
    """Return the schema of what `name` is in a section, None where it has no such key.

    In a list of sections the names are numbers."""
    items = schema.get("items")
    if isinstance(items, dict) and "properties" in items:
        return dict(items)
    found = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return found or None


def at(dotted: str) -> Schema | None:
    """Return the schema of a dotted key, None where there is no such key."""
    node: Schema | None = json_schema()
    for name in dotted.split("."):
        node = part(node, name) if node else None
    return node


def keys(schema: Schema | None = None, prefix: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every dotted key with its schema, sections included."""
    for name, node in (schema or json_schema())["properties"].items():
        yield f"{prefix}{name}", node
        if "properties" in node:
            yield from keys(node, f"{prefix}{name}.")


def known_keys() -> list[str]:
    """Return every dotted key of the configuration, sections included."""
    return [dotted for dotted, _ in keys()]


def flat(node: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a plain (unstructured) configuration by their dotted keys."""
    leaves: dict[str, Any] = {}
    for name, value in (node or {}).items():
        inner = isinstance(value, dict) and value
        leaves |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return leaves
