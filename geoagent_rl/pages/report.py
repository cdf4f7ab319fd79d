"""report.html of a run directory: one self-contained file that opens offline.

A section is a function of what the run has recorded, in a file of its own, and an entry of
SECTIONS. What is absent is left out. All texts are untrusted and escaped; a content policy forbids
any outside request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from geoagent_rl.pages import run_curves, run_evaluation, run_rollouts, run_summary
from geoagent_rl.pages.page import render, write_page
from geoagent_rl.pages.recorded import Recorded, read


def configuration(run: Recorded) -> str:
    """Return config.yaml as the run had it."""
    path = run.path / "config.yaml"
    if not path.is_file():
        return ""
    return render("run_configuration.html", text=path.read_text(encoding="utf-8", errors="replace"))


SECTIONS: dict[str, Callable[[Recorded], str]] = {
    "header": run_summary.header,
    "outcome": run_summary.tiles,
    "evaluation": run_evaluation.tables,
    "curves": run_curves.curves,
    "places": run_rollouts.places,
    "rollouts": run_rollouts.cards,
    "configuration": configuration,
}


def write_report(run: str | Path) -> Path:
    """Write report.html into the run directory and return its path. Raises UserError when there is
    nothing to show.
    """
    recorded = read(Path(run))
    page = recorded.path / "report.html"
    body = (section(recorded) for section in SECTIONS.values())
    write_page(page, f"GeoAgent-RL · {recorded.path.resolve().name}", body)
    return page
