"""The kinds of values that a configuration holds, and `key`, which declares one of its keys.

A field's annotation says its type and range, `key` its default, meaning and unit. Checks, error
messages, docs/configuration.md and the editors' JSON schema are all made from these declarations.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field

T = TypeVar("T")

# Of every section: an unknown key is an error, every number is finite, defaults are checked too.
RULES = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)

Count = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
NotPositive = Annotated[float, Field(le=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
# In an address, `~` begins a file's name after "=": rediss://HOST:6380/0?ssl_ca_certs=~/ca.crt
AddressText = Annotated[
    str, AfterValidator(lambda url: re.sub("(?<==)~[^&]*", lambda m: os.path.expanduser(m[0]), url))  # noqa: PTH111
]
PathText = Annotated[str, AfterValidator(os.path.expanduser)]  # or a name that is no path

Decay = Literal["linear", "cosine"]


def whole(value: object) -> object:
    """Return the number that a text is, for choices among numbers: pydantic takes them as given."""
    return int(value) if isinstance(value, str) else value


def key(default: T, meaning: str, unit: str = "") -> T:
    """Declare a key of the configuration: its default, its meaning as a sentence, its unit."""
    return Field(default, description=meaning, json_schema_extra={"unit": unit} if unit else None)
