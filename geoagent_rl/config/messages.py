"""What is said of keys and values, in one line: in error messages and in the reference."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from geoagent_rl.config.describe import Schema, at, known_keys

# A value of these may hold a password by mistake: it is not repeated.
UNSHOWN = (
    "reward.cache.url",
    "reward.geocoder.opencage.api_key_env",
    "judge.endpoint.api_key_env",
)
# What JSON schema says of the range of a number.
LIMITS = {
    "exclusiveMinimum": "greater than",
    "minimum": "of at least",
    "exclusiveMaximum": "below",
    "maximum": "at most",
}


def explained(error: ValidationError, given: Any) -> str:
    """Return one line that names the key, what it must be and the value it was given."""
    first = error.errors()[0]
    name, value, schema = "", given, None
    for step in first["loc"]:
        inner = at(f"{name}.{step}" if name else str(step))
        if inner is None:
            break
        name, schema = f"{name}.{step}" if name else str(step), inner
        value = value.get(step) if isinstance(value, dict) else value[step]
    if first["type"] == "unexpected_keyword_argument":
        key = ".".join(map(str, first["loc"]))
        return f"unknown configuration key {key!r}{nearest(key, known_keys())}"
    if first["type"] == "missing":
        return f"{name} must be given"
    return wrong(name, schema or {"type": "object"}, value)


def wrong(name: str, schema: Schema, value: Any) -> str:
    """Return one line that says what the key must be, and the value unless it may be a secret."""
    return f"{name} must be {words(schema)}" + ("" if name in UNSHOWN else f", not {shown(value)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known key that `name` probably means, "" where none is near."""
    leaves = [k for k in known if k.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = (leaves or close or [""])[0]
    return f"; did you mean {hint!r}?" if hint else ""


def shown(value: Any) -> str:
    """Return a value as a person writes it, on one line."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    text = " ".join(str(value).split()) or "empty"
    return text if len(text) <= 100 else f"{text[:100]}..."


def words(schema: Schema) -> str:
    """Say what a value may be, as in "a number greater than 0"; for messages and the reference."""
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "anyOf" in schema:
        return " or ".join(map(words, schema["anyOf"]))
    kind = schema.get("type")
    if kind == "object":
        return "a section with keys of its own"
    if kind == "array":
        return _list_words(schema)
    if kind == "string":
        return "text"
    if kind == "boolean":
        return "true or false"
    said = (_limit(word, schema[word]) for word in LIMITS if word in schema)
    name = "a whole number" if kind == "integer" else "a number"
    return f"{name} {' and '.join(filter(None, said))}".strip()


def _limit(word: str, limit: float) -> str:
    """Return how a limit is said; the limits of floating point itself are not."""
    if word == "minimum" and limit == 0:
        return "of 0 or more"
    return "" if abs(limit) == sys.float_info.max else f"{LIMITS[word]} {limit:.12g}"


def _list_words(schema: Schema) -> str:
    fixed = schema.get("prefixItems")
    if fixed:
        return f"a list of {len(fixed)}, each {words(fixed[0])}"
    return f"a list, each {words(schema['items'])}"
