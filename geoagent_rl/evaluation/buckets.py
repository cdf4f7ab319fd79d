"""Groups of photographs for evaluation: by locatability, scene class, continent and country.

Locatability bands are the paper's: 0 unlocatable, below 4 extremely low, below 6 low, below 8
moderate, below 10 high, 10 extremely high. A country comes from the true names, else from the
nearest town to the true position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geoagent_rl.evaluation.predictions import Predictions
from geoagent_rl.geo.countries import CountryCodes, countries
from geoagent_rl.types import UserError

BANDS = ((0.0, "0 unlocatable"), (4.0, "1-3 extremely low"), (6.0, "4-5 low"), (8.0, "6-7 moderate"),
         (10.0, "8-9 high"))  # fmt: skip
HIGHEST = "10 extremely high"
KINDS = ("locatability", "scene", "continent", "country")
UNKNOWN = "(unknown)"


def band(score: Any) -> str:
    """Return the band of a locatability score; "(unknown)" for a blank."""
    try:
        value = float(score)
    except (TypeError, ValueError):
        return UNKNOWN
    if not 0 <= value <= 10:
        return UNKNOWN
    if value == 0:
        return BANDS[0][1]
    return next((name for limit, name in BANDS[1:] if value < limit), HIGHEST)


def labels(predictions: Predictions, kind: str) -> list[str] | None:
    """Return the bucket of each row; None where the file says nothing that this kind of bucket
    needs. Raises UserError.
    """
    if kind not in KINDS:
        raise UserError(f"--by {kind}: there are buckets by {', '.join(KINDS)}")
    columns = predictions.columns
    if kind == "locatability":
        scores = columns.get("locatability", columns.get("locatability_score"))
        return (
            None
            if scores is None or not any(s is not None for s in scores)
            else [band(s) for s in scores]
        )
    if kind == "scene":
        scenes = columns.get("scene")
        return None if scenes is None or not any(scenes) else [str(s or UNKNOWN) for s in scenes]
    known = (countries().get(code) for code in country_codes(predictions))
    return [UNKNOWN if c is None else c.continent if kind == "continent" else c.name for c in known]


def country_codes(predictions: Predictions) -> list[str]:
    """Return the ISO codes of the true countries, "" where unknown."""
    code_of = CountryCodes()
    codes = [
        code_of(str(name or ""))
        for name in predictions.columns.get("country", [""] * len(predictions.uids))
    ]
    blank = [i for i, code in enumerate(codes) if not code]
    if blank:
        from geoagent_rl.geo.nearest import (
            NearestPlace,
        )  # takes a second; files with names do without

        nearest = NearestPlace.open()
        index, _ = nearest.find(*predictions.truth[blank].T)
        for i, place in zip(blank, index, strict=True):
            codes[i] = nearest.places[place].country_code if place >= 0 else ""
    return codes


def order(kind: str, names: Sequence[str]) -> list[str]:
    """Return the bucket names in reading order: bands from the hardest to the easiest, others by
    size; unknown last.
    """
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    if kind == "locatability":
        bands = [*(name for _, name in BANDS), HIGHEST, UNKNOWN]
        return [name for name in bands if name in counts]
    return sorted(counts, key=lambda name: (name == UNKNOWN, -counts[name], name))


def members(names: Sequence[str], bucket: str) -> np.ndarray:
    """Return the rows of one bucket."""
    return np.flatnonzero(np.array(names) == bucket)
