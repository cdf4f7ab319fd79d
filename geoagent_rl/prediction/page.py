"""The page of prediction/server.py: a form, and what the model said. Everything the model
wrote is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from geoagent_rl.pages.charts import world_map
from geoagent_rl.prediction.locator import show_location
from geoagent_rl.rewards.services import LEVELS

# Comfort only: submits when a photograph is dropped or chosen, and says that it is under way.
SCRIPT = """
const form = document.getElementById("ask"), photo = document.getElementById("photo");
const drop = document.getElementById("drop");
form.addEventListener("submit", () => {
  document.getElementById("busy").textContent = "Looking at it …";
  document.getElementById("go").disabled = true;
});
photo.addEventListener("change", () => { if (photo.files.length) form.requestSubmit(); });
for (const name of ["dragover", "dragleave", "drop"]) drop.addEventListener(name, event => {
  event.preventDefault();
  drop.classList.toggle("over", name === "dragover");
});
drop.addEventListener("drop", event => {
  if (event.dataTransfer.files.length) { photo.files = event.dataTransfer.files; form.requestSubmit(); }
});
window.addEventListener("pageshow", () => {
  document.getElementById("busy").textContent = "";
  document.getElementById("go").disabled = false;
});
"""


def page(
    model: str, row: Mapping[str, Any] | None = None, picture: str = "", problem: str = ""
) -> str:
    """Return the whole page. row: of Locator.locate; picture: a data URI; problem: why there is no
    result.
    """
    shown = result(row, picture) if row else ""
    if problem:
        shown = f'<p class="card result" role="alert"><b class="no">{escape(problem)}</b></p>'
    html, css = (
        (files("geoagent_rl") / "assets" / name).read_text("utf-8")
        for name in ("predict.html", "report.css")
    )
    text = Template(html).substitute(css=css, script=SCRIPT, model=escape(model), result=shown)
    return text.encode("utf-8", "replace").decode("utf-8")


def result(row: Mapping[str, Any], picture: str) -> str:
    """Return the answer, its reasoning and its map as HTML."""
    fault = f'<p class="no small">Format: {escape(row["problem"])}</p>' if row["problem"] else ""
    seen = f'<img alt="the photograph" src="{picture}">'
    raw = f"<details><summary>completion as generated</summary><pre>{escape(row['text'])}</pre></details>"
    said = f'<p class="answer">{escape(row["answer"]) or "No answer"}</p><p>{escape(show_location(row))}</p>'
    return (
        f'<div class="card rollout result"><div>{seen}</div><div>{said}{fault}{stages(row)}{raw}</div></div>'
        + place_map(row)
    )


def stages(row: Mapping[str, Any]) -> str:
    """Return the stages of reasoning as HTML."""
    out = []
    for level, stage in zip(LEVELS, row["stages"], strict=False):
        chips = "".join(f'<span class="chip">{escape(clue)}</span>' for clue in stage["clues"])
        doubt = (
            f"uncertainty {escape(stage['uncertainty'].lower())}" if stage["uncertainty"] else ""
        )
        out.append(
            f'<div class="stage"><h3>{level.capitalize()}: {escape(stage["conclusion"])}</h3><p>{chips}</p>'
            f'<p>{escape(stage["reasoning"])}</p><p class="muted small">{doubt}</p></div>'
        )
    return "".join(out)


def place_map(row: Mapping[str, Any]) -> str:
    """Return a map of the answer; "" where it names no known place."""
    if row["lat"] is None:
        return ""
    here = (row["lat"], row["lon"])
    drawn = world_map([(here, here, row["answer"])], "map of the predicted place")
    note = (
        f"The middle of the {row['level']} as the gazetteer knows it"
        if row["level"] != "place"
        else "The place"
    )
    return f'<div class="card wide result">{drawn}<p class="muted small">{escape(note)}. Dots are big cities.</p></div>'
