"""The kinds of values that a configuration holds, and `key`, which declares one of its keys.

A field's annotation says its type and range, `key` its default, meaning and unit. Checks, error
messages, docs/configuration.md and the editors' JSON schema are all made from these declarations.
"""

from __future__ import annotations

import os
from typing import Annotated, TypeVar, cast

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ConfigDict, Field

T = TypeVar("T")

# Of every section: an unknown key is an error, every number is finite, defaults are checked too.
RULES = ConfigDict(
    extra="forbid", allow_inf_nan=False, validate_default=True, use_attribute_docstrings=False
)

Count = Annotated[int, Gt(0)]
CountOrNone = Annotated[int, Ge(0)]  # 0 switches something off
Seed = Annotated[int, Ge(0), Lt(2**32)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
PositiveShare = Annotated[float, Gt(0), Le(1)]
ShareBelowOne = Annotated[float, Ge(0), Lt(1)]
PathText = Annotated[
    str, AfterValidator(os.path.expanduser), Field(json_schema_extra={"format": "path"})
]


def key(default: T, meaning: str, unit: str = "") -> T:
    """Declare a key of the configuration: its default, its meaning as a sentence, its unit."""
    return cast(
        T, Field(default, description=meaning, json_schema_extra={"unit": unit} if unit else None)
    )
