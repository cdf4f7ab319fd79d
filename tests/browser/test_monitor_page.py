"""The monitor in a real Chromium: every view opens, curves move and zoom, a rollout and its group
are shown, and nothing runs that a model wrote.
"""

from __future__ import annotations

import asyncio
import re
import threading

import pytest
from playwright.sync_api import expect

from cluster.monitor.panels import panels
from geoagent_rl import driver
from geoagent_rl.config import load
from tests.support.driver_fakes import FakeEngine, FakeLearner, FakeScorer, prompt_at
from tests.support.monitor_runs import EVIL, Joined, new_run, photograph, record, served

CURVES = list(dict.fromkeys(panel.tab for panel in panels(())))
TABS = ["Runs", *CURVES, "Rollouts", "Evaluation", "Configuration", "Log", "Alerts", "Cluster"]


def ready(page, tab):
    expect(page.locator("body")).to_have_attribute("data-ready", tab, timeout=30_000)


def open_tab(page, tab):
    page.get_by_role("tab", name=tab, exact=True).click()
    ready(page, tab)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs: an evil one, and a better one."""
    folder = tmp_path_factory.mktemp("monitor")
    photo = photograph(folder / "photos")
    record(new_run(folder, "first"), photo, range(1, 61), words=EVIL, rise=40)
    second = new_run(folder, "second", steps=80)
    record(second, photo, range(1, 41), words="Moss on the roofs", rise=15)
    second.record_eval(
        "sft", "heldout", {"n": 10, "failed": 0, "hit": {"25": 0.5}, "geoscore": 4000.4}
    )
    return folder


@pytest.fixture(scope="module")
def url(monitor, folder):
    return monitor(str(folder / "runs"), "--port", "0")


def test_every_view_opens_by_key_without_an_error_and_without_a_serious_fault(
    page, errors, url, faults
):
    page.goto(url)
    ready(page, "Rewards")
    expect(page.locator("#runs input:checked + span b")).to_have_text("second")
    expect(page.locator("figure:not([hidden])[data-lines]").first).to_be_visible()
    found = {}
    for number, tab in enumerate(TABS, 1):
        if number <= 9:
            page.keyboard.press(str(number))
        else:
            page.get_by_role("tab", name=tab, exact=True).click()
        ready(page, tab)
        expect(page.locator("[role=tab][aria-selected=true]")).to_contain_text(tab)
        found[tab] = faults(page)
        page.keyboard.press("t")
        found[f"{tab}, other theme"] = faults(page)
        page.keyboard.press("t")
    assert {tab: some for tab, some in found.items() if some} == {}
    assert errors == []


def test_what_the_run_does_and_what_is_wrong_with_it_stands_above_every_view(page, url):
    page.goto(url)
    ready(page, "Rewards")
    expect(page.locator("#status")).to_contain_text("crashed")
    expect(page.locator("#status")).to_contain_text("step 40 of 80")
    expect(page.locator("#status code")).to_contain_text("geoagent-rl train --resume run.dir=/")
    open_tab(page, "Alerts")
    expect(page.locator("tr", has_text="KL to the reference")).to_contain_text("fine")


def test_runs_are_compared_and_curves_are_read_and_zoomed_with_the_keyboard(page, url):
    page.goto(f"{url}/#tab=Rewards&runs=second|first&smooth=1")
    total = page.locator("#panel-total-reward")
    expect(total).to_have_attribute("data-lines", "2")
    page.keyboard.press("c")
    for key in ("Home", "ArrowRight"):
        page.keyboard.press(key)
    expect(total.locator("output")).to_have_text(re.compile("step 2: second .* first "))
    page.keyboard.press("+")
    expect(total).to_have_attribute("data-zoomed", re.compile(r"\d"))
    total.get_by_role("button", name="zoom out").click()
    expect(total).to_have_attribute("data-zoomed", "")
    page.locator("#panel-reward-by-component [aria-pressed=false]").first.click()
    expect(page.locator("#panel-reward-by-component")).to_have_attribute("data-lines", "2")


def test_a_curve_zooms_by_dragging_and_shows_wall_time_and_logarithms(page, errors, url):
    page.goto(f"{url}/#tab=Learning&runs=second")
    kl = page.locator("#panel-kl-to-the-reference")
    kl.scroll_into_view_if_needed()
    expect(kl).to_have_attribute("data-points", "40")
    box = kl.locator(".u-over").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.3, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=4)
    page.mouse.up()
    expect(kl).to_have_attribute("data-zoomed", re.compile(r"\d"))
    kl.get_by_role("button", name="logarithmic").click()
    expect(kl.get_by_role("button", name="logarithmic")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Over").select_option("time")
    expect(kl.locator(".plot")).to_have_attribute("aria-label", re.compile("by time"))
    page.keyboard.press("c")
    kl.locator(".plot").focus()
    page.keyboard.press("End")
    expect(kl.locator("output")).to_contain_text("after 1:20 min")  # 40 steps of 2 s
    assert errors == []


def test_fingers_read_a_curve_and_zoom_it(phone, url, touch):
    phone.goto(f"{url}/#tab=Learning&runs=second")
    kl = phone.locator("#panel-kl-to-the-reference")
    kl.scroll_into_view_if_needed()
    phone.wait_for_load_state("networkidle")  # every chart has its numbers and its height
    expect(kl).to_have_attribute("data-points", "40")
    touch(phone, kl.locator(".u-over"), [[(0.4, 0.5)], [(0.5, 0.5)], [(0.6, 0.5)]])
    expect(kl.locator("output")).to_have_text(re.compile("step 2[45]: "))
    expect(kl).not_to_have_attribute("data-zoomed", re.compile(r"\d"))
    apart = [[(0.4, 0.5), (0.6, 0.5)], [(0.3, 0.5), (0.7, 0.5)], [(0.2, 0.5), (0.8, 0.5)]]
    touch(phone, kl.locator(".u-over"), apart)
    expect(kl).to_have_attribute("data-zoomed", re.compile(r"\d"))
    low, high = map(float, kl.get_attribute("data-zoomed").split())
    assert high - low == pytest.approx(39 / 3, rel=0.2)


def test_the_table_of_runs_is_filtered_sorted_and_keeps_notes(page, url, folder):
    page.goto(f"{url}/#tab=Runs")
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="step", exact=True).click()
    expect(rows.first).to_contain_text("first")  # 60 steps
    note = page.get_by_label("note on second")
    note.fill("the better one")
    with page.expect_response("**/api/note") as answer:
        note.blur()
    assert answer.value.ok
    assert (folder / "runs" / "second" / "note.txt").read_text() == "the better one"
    page.get_by_label("Filter runs").fill("better")
    expect(rows).to_have_count(1)


def test_configurations_stand_side_by_side_where_they_differ(page, url):
    page.goto(f"{url}/#tab=Configuration&runs=first|second")
    shown = page.locator(".settings tbody tr")
    expect(shown.filter(has_text="steps")).to_contain_text("80")
    page.get_by_label("only what differs").uncheck()
    expect(shown.filter(has_text="rollout.group_size")).to_be_visible()
    open_tab(page, "Evaluation")
    expect(page.locator("main")).to_contain_text("50.0 %")
    open_tab(page, "Log")
    expect(page.locator("main pre").first).to_contain_text("step 60/")


def test_a_rollout_opens_with_picture_reasoning_map_scores_and_its_group(page, url):
    page.goto(f"{url}/#tab=Rollouts&runs=second")
    cards = page.locator(".list [role=option]")
    expect(cards).to_have_count(24)
    page.keyboard.press("j")
    article = page.locator("article")
    expect(article).to_have_attribute("data-at", cards.nth(1).get_attribute("data-at"))
    expect(article.locator("img")).not_to_have_js_property("naturalWidth", 0)
    for said in (
        *("policy version 39", "country: Germany", "Moss on the roofs leads to", "✗ disagrees"),
        *("judge derives", "304 km away", "spatial", "München", "The 4 answers to this prompt"),
    ):
        expect(article).to_contain_text(said)
    drawn = page.locator(".world svg")
    expect(drawn.locator("circle")).to_have_count(2)
    assert drawn.locator("use").first.evaluate("use => use.getBoundingClientRect().width > 100")
    whole = drawn.get_attribute("viewBox")
    page.keyboard.press("z")
    expect(drawn).not_to_have_attribute("viewBox", whole)
    expect(page.locator(".group thead th")).to_have_count(4)
    page.locator(".group thead button").first.click()
    expect(page.locator(".group [aria-current]")).to_have_text("#0")
    page.get_by_label("failures only").check()
    expect(page.locator(".rollouts [role=status]")).to_contain_text("of 80")


def test_nothing_that_a_model_wrote_becomes_part_of_the_page(page, errors, url):
    page.goto(f"{url}/#tab=Rollouts&runs=first")
    expect(page.locator("article pre")).to_contain_text("<script>window.hacked")
    assert page.evaluate("window.hacked") is None
    expect(page.locator("main script, main img[src=x]")).to_have_count(0)
    # Were it to become part of the page all the same, the page's own policy would still not let it
    # run.
    page.evaluate(
        "evil => document.querySelector('main').insertAdjacentHTML('beforeend', evil)", EVIL
    )
    expect(page.locator("main img[src=x]")).to_have_js_property("complete", True)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in error for error in errors)


def test_the_buttons_change_the_number_of_replicas(page, errors, folder):
    joined = Joined()
    with served(folder / "runs", joined) as port:
        page.goto(f"http://127.0.0.1:{port}/#tab=Cluster")
        expect(page.locator("main")).to_contain_text("rollout-abc-0")
        expect(page.get_by_label("judge: 0 replicas")).to_be_disabled()  # the last one stays
        page.locator("[id='scale-judge-+']").focus()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text("2 running")
        assert page.evaluate("document.activeElement.id") == "scale-judge-+"
        assert joined.asked == [("judge", 2)] and errors == []


def test_pictures_of_the_monitor(page, monitor, folder, real_run, photograph):
    run = real_run or folder / "runs" / "second"
    page.goto(monitor(str(run), "--port", "0"))
    expect(page.locator("figure[data-points]").nth(1)).to_be_attached()
    page.locator("#folder").evaluate("node => { node.hidden = true }")  # a path of this machine
    photograph(page, "monitor.png")
    page.get_by_role("tab", name="Rollouts").click()
    page.get_by_label("Order").select_option("best")
    page.set_viewport_size({"width": 1280, "height": 1000})
    expect(page.locator(".group thead th").first).to_be_attached()
    page.get_by_role("button", name="zoom to what is marked").click()
    photograph(page, "monitor-rollout.png")


def test_without_a_run_the_page_says_what_starts_one(page, errors, monitor, tmp_path, faults):
    page.goto(monitor(str(tmp_path), "--port", "0"))
    expect(page.locator("main")).to_contain_text("geoagent-rl demo")
    assert faults(page) == [] and errors == []


def test_a_run_without_a_step_is_shown_in_every_view(page, errors, monitor, tmp_path, faults):
    page.goto(monitor(str(new_run(tmp_path, "begun").path), "--port", "0"))
    found = {}
    for tab in TABS:
        open_tab(page, tab)
        found[tab] = faults(page)
        assert page.locator("main").inner_text().strip(), tab
    assert {tab: some for tab, some in found.items() if some} == {} and errors == []


def test_the_curves_alone_have_no_serious_fault(page, errors, url, faults):
    for theme in ("light", "dark"):
        page.goto(f"{url}/d/rayDefaultDashboard/x?kiosk&theme={theme}")
        expect(page.locator("figure[data-lines]").first).to_be_visible()
        assert faults(page) == [] and errors == []


@pytest.mark.parametrize("tab", TABS)
def test_the_page_fits_a_phone(page, url, tab, narrow):
    page.goto(f"{url}/#tab={tab}&runs=second")
    ready(page, tab)
    assert narrow(page)


def test_curves_move_while_a_run_goes(page, errors, monitor, tmp_path):
    run = new_run(tmp_path, "going")
    page.goto(monitor(str(run.path), "--port", "0"))
    expect(page.locator("#runs b")).to_have_text("going")
    config = load(
        None, ["steps=400", "data.manifest=x", "rollout.prompts_per_step=2", "rollout.group_size=4"]
    )
    stop = threading.Event()

    async def on_step(step, metrics, groups):
        run.record_step(metrics, groups)
        if stop.is_set():
            raise asyncio.CancelledError

    def train():
        work = driver.train(
            config, prompt_at, [FakeEngine(0.05)], FakeScorer(0.01), FakeLearner(0.02), on_step
        )
        with run.exclusive(), pytest.raises(asyncio.CancelledError):
            asyncio.run(work)

    training = threading.Thread(target=train)
    training.start()
    try:
        total = page.locator("#panel-total-reward")
        expect(total).to_have_attribute("data-points", re.compile(r"[1-9]"))
        first = total.get_attribute("data-points")
        expect(total).not_to_have_attribute("data-points", first)
        expect(page.locator("#status")).to_contain_text("running")
    finally:
        stop.set()
        training.join(30)
    assert not training.is_alive() and errors == []
