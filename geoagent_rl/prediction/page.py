"""The page of serve-model (prediction/server.py): a form, and what the model said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from geoagent_rl.pages.maps import place_map
from geoagent_rl.pages.page import MAPS, asset, render
from geoagent_rl.prediction.locator import show_location
from geoagent_rl.rewards.services import LEVELS


def script() -> Markup:
    """Return the only script that the page's content policy lets run."""
    return asset("predict.js") + asset(MAPS)


def page(
    model: str, row: Mapping[str, Any] | None = None, picture: str = "", problem: str = ""
) -> str:
    """Return the whole page. row: of Locator.locate; picture: a data URI; problem: why there is no
    result.
    """
    html = render(
        "predict.html",
        model=model,
        row=row,
        picture=picture,
        problem=problem,
        location=show_location(row) if row else "",
        stages=list(zip(LEVELS, row["stages"], strict=False)) if row else (),
        map=_map(row) if row and row["lat"] is not None else "",
        script=script(),
    )
    return html.encode("utf-8", "replace").decode("utf-8")


def _map(row: Mapping[str, Any]) -> Markup:
    """Return a map of the answer."""
    level = row["level"]
    middle = f"the middle of the {level} that it names"
    own = {"place": "the place that it names", "position": "the position that it says"}
    note = own.get(level, middle)
    label = "map of the predicted place"
    return place_map((row["lat"], row["lon"]), row["answer"], label, true=False, note=note)
