"""The pages that a run leaves behind, in a real Chromium: no serious fault for who uses a screen
reader or the keyboard, nothing wider than a phone, maps that zoom.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import expect
from typer.testing import CliRunner

from cluster.cli.main import app
from geoagent_rl.evaluation.ablations import read_rows, summarise
from geoagent_rl.pages.ablation import write_ablation
from geoagent_rl.pages.report import write_report
from tests.support.monitor_runs import TRUTH, new_run, photograph, record
from tests.support.paths import CONFIGS, TEST_DATA

DRAWN = 2000 if os.environ.get("GEOAGENT_POOL") else 40
PAGES = "report compare explain completions reweigh evaluation sample-report ablation".split()
KILOMETRES = ("1", "25", "200", "750", "2500")
ABLATED = {
    (row, seed): {"n": 100, "hit": dict.fromkeys(KILOMETRES, share + seed / 50), "geoscore": 3000.0,
                  "format_valid": 1.0, "reward_consistency": 0.5, "reward_total": 2.0}
    for row, share in (("base", 0.0), ("sft", 0.4), ("full", 0.6)) for seed in (0, 1)
}  # fmt: skip


def pool(path: Path) -> Path:
    """Return a table of positions: GEOAGENT_POOL for the documentation's picture."""
    named = os.environ.get("GEOAGENT_POOL")
    if named:
        return Path(named).resolve()
    near = {"DE": (48.1, 11.6), "KE": (-1.3, 36.8), "JP": (35.7, 139.7), "US": (40.7, -74.0)}
    rows = [f"{i},{lat + i / 40},{lon},{c}" for i in range(40) for c, (lat, lon) in near.items()]
    path.write_text("\n".join(["id,lat,lon,country", *rows]) + "\n")
    return path


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


def command(*words) -> None:
    """In a thread of its own: Playwright's loop runs in this one."""
    with ThreadPoolExecutor(1) as aside:
        asked = list(map(str, words))
        done = aside.submit(CliRunner().invoke, app, asked, catch_exceptions=False).result()
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """{name: address} of every page that commands write of runs."""
    out = tmp_path_factory.mktemp("written")
    a, b = map(str, runs)
    files = [f"{run}/predictions/grpo-eval.jsonl" for run in (a, b)]
    command("compare", a, b, "--html", out / "compare.html")
    command("reward", "explain", a, "--step", "12", "--html", out / "explain.html")
    command("reward", "reweigh", a, "spatial=0", "--html", out / "reweigh.html")
    few = (TEST_DATA / "tricky_completions.jsonl").read_text(encoding="utf-8").splitlines(True)
    (out / "few.jsonl").write_text("".join(few[:3]), encoding="utf-8")
    command("reward", "explain", out / "few.jsonl", "--html", out / "completions.html")
    systems = f"A={files[0]}", f"B={files[1]}"
    command("eval", "compare", *systems, "--rounds", "100", "--html", out / "evaluation.html")
    command("data", "sample", pool(out / "pool.csv"), "--n", DRAWN, "--out", out / "sample.csv")
    outcome = summarise(read_rows(CONFIGS / "ablations"), ABLATED)
    write_ablation(out / "ablation.html", outcome, "An ablation")
    found = {path.stem: path.as_uri() for path in out.glob("*.html")}
    return found | {"report": write_report(runs[0]).as_uri()}


@pytest.mark.parametrize("name", PAGES)
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


def test_picture_of_a_sample(page, pages, photograph):
    page.goto(pages["sample-report"])
    page.set_viewport_size({"width": 900, "height": 952})
    page.get_by_role("heading", name="Pool").scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, document.querySelector('h2').offsetTop - 12)")
    photograph(page, "sample-maps.png")


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


def test_two_fingers_zoom_a_map_and_one_moves_it(phone, pages, touch):
    phone.goto(pages["report"])
    drawn = phone.locator("figure.world svg").first
    drawn.scroll_into_view_if_needed()
    whole = drawn.get_attribute("viewBox")
    touch(phone, drawn, [[(0.4, 0.5), (0.6, 0.5)], [(0.3, 0.5), (0.7, 0.5)]])
    near = drawn.get_attribute("viewBox")
    x, y, width, _ = map(float, near.split())
    assert width == pytest.approx(float(whole.split()[2]) / 2, rel=0.1)
    touch(phone, drawn, [[(0.5, 0.5)], [(0.25, 0.5)]])
    moved = [float(number) for number in drawn.get_attribute("viewBox").split()]
    assert moved[0] == pytest.approx(x + width / 4, rel=0.05) and moved[2] == width
    phone.locator("figure.world").first.get_by_role("button", name="whole world").click()
    touch(phone, drawn, [[(0.5, 0.5)], [(0.25, 0.5)]])  # scrolls the page
    expect(drawn).to_have_attribute("viewBox", whole)
