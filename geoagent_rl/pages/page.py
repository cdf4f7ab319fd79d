"""A self-contained page: what every page of ours is written by."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from geoagent_rl.files import write_bytes


def write_page(path: Path, title: str, body: Iterable[str]) -> None:
    """Write a self-contained page in the report's style. `body` is HTML, `title` plain text."""
    assets = files("geoagent_rl") / "assets"
    page = Template((assets / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        css=(assets / "report.css").read_text(encoding="utf-8"),
        body="\n".join(part for part in body if part),
    )
    write_bytes(path, page.encode("utf-8", "replace"))
