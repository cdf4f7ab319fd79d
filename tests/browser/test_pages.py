"""The pages that a run leaves behind, in a real Chromium: no serious fault for who uses a screen
reader or the keyboard, nothing wider than a phone, maps that zoom.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from typer.testing import CliRunner

from cluster.cli.main import app
from geoagent_rl.pages.report import write_report
from tests.support.monitor_runs import TRUTH, new_run, photograph, record


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs with curves, rollouts, evaluations and predictions."""
    folder = tmp_path_factory.mktemp("pages")
    made = []
    for name, shift in (("a", 2.0), ("b", 0.5)):
        run = new_run(folder, name, max_staleness=int(name == "b"))
        record(run, photograph(folder / "photos"), range(1, 13), words="Moss")
        truth = {
            "gt_lat": TRUTH.lat,
            "country": "Germany",
            "place": "Munich",
            "answer": "Germany; Bavaria; Bonn",
        }
        rows = [
            truth
            | {
                "uid": f"p{i}",
                "gt_lon": i / 4,
                "pred_lat": TRUTH.lat - shift * (i % 5),
                "pred_lon": i / 4,
            }
            for i in range(40)
        ]
        run.record_predictions("grpo", "eval", rows)
        table = {
            "n": 40,
            "failed": 0,
            "hit": {"25": 0.5},
            "geoscore": 4000.0,
            "geoscore_scale_km": 1805.0,
        }
        for stage in ("sft", "grpo"):
            run.record_eval(stage, "heldout", table)
        made.append(run.path)
    return made


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """{name: address} of every page that commands write of runs."""
    out = tmp_path_factory.mktemp("written")
    a, b = map(str, runs)
    files = [f"{run}/predictions/grpo-eval.jsonl" for run in (a, b)]
    for words in (
        ["compare", a, b, "--html", out / "compare.html"],
        ["reward", "explain", a, "--step", "12", "--html", out / "explain.html"],
        ["reward", "reweigh", a, "spatial=0", "--html", out / "reweigh.html"],
        [
            "eval",
            "compare",
            f"A={files[0]}",
            f"B={files[1]}",
            "--rounds",
            "100",
            "--html",
            out / "evaluation.html",
        ],
    ):
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    found = {path.stem: path.as_uri() for path in out.glob("*.html")}
    return found | {"report": write_report(runs[0]).as_uri()}


@pytest.mark.parametrize("name", ["report", "compare", "explain", "reweigh", "evaluation"])
def test_a_page_has_no_serious_fault_in_either_theme_and_fits_a_phone(
    page, errors, pages, name, faults, narrow
):
    page.goto(pages[name])
    found = {}
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        found[theme] = faults(page)
    assert found == {"light": [], "dark": []} and errors == []
    assert narrow(page)


def test_picture_of_a_report(page, runs, real_run, photograph):
    page.goto(write_report(real_run or runs[0]).as_uri())
    page.set_viewport_size({"width": 1180, "height": 900})
    photograph(page, "report.png")


@pytest.mark.parametrize("name", ["report", "evaluation"])
def test_a_map_zooms_moves_and_shows_where_answers_are_dense(page, pages, name):
    page.goto(pages[name])
    world = page.locator("figure.world").first
    drawn = world.locator("svg")
    whole = drawn.get_attribute("viewBox")
    world.get_by_role("button", name="zoom to what is marked").click()
    expect(drawn).not_to_have_attribute("viewBox", whole)
    near = drawn.get_attribute("viewBox")
    drawn.focus()
    page.keyboard.press("ArrowLeft")
    expect(drawn).not_to_have_attribute("viewBox", near)
    world.get_by_role("button", name="density").click()
    expect(world.locator(".density")).to_be_visible()
    expect(world.locator(".errors")).to_be_hidden()
    world.get_by_role("button", name="whole world").click()
    expect(drawn).to_have_attribute("viewBox", whole)
