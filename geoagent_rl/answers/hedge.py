"""Answers that name no place on purpose ("unknown", "The exact city cannot be determined", "N/A",
"???", "somewhere").

A hedge is treated as an empty level everywhere: it is not sent to a geocoder or an encoder, and it
can agree with nothing, not even with another hedge, so that declining to answer never earns. May
know nothing of services."""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.geo.absent import is_absent
from geoagent_rl.geo.folding import normalise

PLACELESS = (
    "anywhere",
    "somewhere",
    "nowhere",
)  # no answers, though a gazetteer may know a town of that name


def is_hedge(name: str) -> bool:
    """Return True for an empty name, one without any letter or digit, and for a phrase that
    declines to answer.
    """
    return is_absent(name) or normalise(name) in PLACELESS


def without_hedges(levels: Sequence[str]) -> tuple[str, ...]:
    """Return the levels with white space tidied and every hedge replaced by ""."""
    return tuple("" if is_hedge(name) else " ".join(name.split()) for name in levels)
