"""Answers that name no place on purpose ("unknown", "The exact city cannot be determined", "N/A", "???").

A hedge is treated as an empty level everywhere: it is not sent to a geocoder or an encoder, and it can agree with
nothing, not even with another hedge, so that declining to answer never earns. May know nothing of services.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from geoagent_rl.geo.places import is_absent, normalise

_LEVEL = (
    r"(?:country|state|region|province|county|city|town|village|place|location|area|specific|exact|precise|the|an?)"
)
_NOT = r"(?:not|cannot|can not|cant|could not|couldnt|unable to|impossible to|hard to|difficult to)(?: be)?"
_KNOW = r"(?:known|clear|sure|certain|possible|given|tell|say|determin\w+|identif\w+|specif\w+|available|applicable)"
_ABSENCE = (
    rf"unknown|unsure|uncertain|unclear|undetermined|unidentif\w+|unspecif\w+|undisclosed|indeterminate|{_NOT} {_KNOW}"
    r"|no (?:idea|answer|clue|information|conclusion|data)|anywhere|somewhere|nowhere"
)
_BECAUSE = rf"{_NOT} {_KNOW} (?:from|by|with|without|based on|due to|given|in (?:the|this)) .*"  # "... the image"
_PHRASE = re.compile(rf"(?:{_LEVEL} )*(?:(?:is|are) )?(?:(?:{_ABSENCE})(?: {_LEVEL})*|{_BECAUSE})")


def is_hedge(name: str) -> bool:
    """True for an empty name, one without any letter or digit, and for a phrase that declines to answer."""
    return is_absent(name) or _PHRASE.fullmatch(normalise(name)) is not None


def without_hedges(levels: Sequence[str]) -> tuple[str, ...]:
    """The levels with white space tidied and every hedge replaced by ""."""
    return tuple("" if is_hedge(name) else " ".join(name.split()) for name in levels)
