"""Where the answers of a prediction file lie that are texts: geocoded as the rewards geocode them.

A text is a whole completion, "Country; Region; Place", or any address that `geocode` reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoagent_rl.answers.parse import parse
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.match import Match


def positions(texts: Sequence[Any]) -> NDArray[np.float64]:
    """Return latitudes and longitudes, shape (n, 2); NaN for what names no known place."""
    gazetteer = Gazetteer.open()
    found = [_match(gazetteer, str(text or "")) for text in texts]
    rows = [(match.lat, match.lon) if match else (np.nan, np.nan) for match in found]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _match(gazetteer: Gazetteer, text: str) -> Match | None:
    if "<answer>" in text or "FinalAnswer" in text:
        return gazetteer.geocode(*parse(text).levels)
    return gazetteer.geocode_text(text)
