"""What one check of `geoagent-rl doctor` has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the report. "note": works, or not needed, but worth knowing; "fail": something
    will not work.
    """

    name: str
    status: Literal["ok", "note", "fail"]
    found: str
    advice: str = ""
