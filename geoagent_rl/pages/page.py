"""Every page of ours: Jinja templates of assets/pages, which escape what they are given.

A page is one file that opens offline. Its content policy forbids every request and every script but
the one that zooms maps; without that script a page shows the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from geoagent_rl.files import write_bytes

ASSETS = Path(str(files("geoagent_rl") / "assets"))
MAPS = "map.js"


def render(template: str, **values: Any) -> Markup:
    """Return a template of assets/pages as HTML; values that are not Markup are escaped."""
    return Markup(_environment().get_template(template).render(**values))


def write_page(path: Path, title: str, body: Iterable[str]) -> None:
    """Write a self-contained page in the report's style. `body` is HTML, `title` plain text."""
    html = Markup("\n".join(part for part in body if part))
    maps = 'class="world"' in html
    script = asset(MAPS) if maps else ""
    page = render("page.html", title=title, body=html, maps=maps, script=script)
    write_bytes(path, page.encode("utf-8", "replace"))


def percent(value: float | None) -> str:
    """Return a share in percent; a dash where it is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.1%}"


def whole(value: float | None) -> str:
    """Return a whole number with separators; a dash where it is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:,.0f}"


@cache
def asset(name: str) -> Markup:
    """Return a file of assets/pages, which is ours and goes into pages as it is."""
    return Markup((ASSETS / "pages" / name).read_text(encoding="utf-8"))


def script_hash(script: str) -> Markup:
    """Return what a content policy calls the one script that may run; 'none' for none."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Markup(f"'sha256-{digest}'" if script else "'none'")


@cache
def land() -> Markup:
    """Return the shapes that the maps of a page refer to: #land and #borders, unseen themselves."""
    shapes = json.loads((ASSETS / "natural_earth" / "world.json").read_text(encoding="utf-8"))
    return render("land.html", shapes=shapes)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("geoagent_rl", "assets/pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "whole": whole}
    made.globals |= {"asset": asset, "land": land, "script_hash": script_hash}
    return made
