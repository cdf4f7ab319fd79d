"""The format reward: 1 when the completion has exactly the form that was asked for, else 0 with the reason.

What counts as that form is decided in policy/answer.py alone. May know nothing of services.
"""

from __future__ import annotations

from geoagent_rl.policy.answer import Parsed
from geoagent_rl.types import Outcome


def outcome(parsed: Parsed) -> Outcome:
    details = {"levels": list(parsed.levels), "stages": len(parsed.stages)}
    if parsed.format_ok:
        return Outcome("score", 1.0, details=details)
    return Outcome("data", 0.0, parsed.problem, details)
