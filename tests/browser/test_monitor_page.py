"""The monitor in a real Chromium: it opens, moves while a run goes, shows a rollout, and runs
nothing a model wrote.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from cluster.monitor.panels import panels
from geoagent_rl import driver
from geoagent_rl.config import load
from tests.support.driver_fakes import FakeEngine, FakeLearner, FakeScorer, prompt_at
from tests.support.monitor_runs import EVIL, Joined, new_run, photograph, record, served

TABS = list(dict.fromkeys(panel.tab for panel in panels(())))
LAST = "document.querySelector('#panel-total-reward output').innerText"


def ready(tab: str) -> str:
    return f"document.body.dataset.ready == {tab!r}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs: an evil one, and a better one."""
    folder = tmp_path_factory.mktemp("monitor")
    photo = photograph(folder / "photos")
    record(new_run(folder, "first"), photo, range(1, 61), words=EVIL, rise=40)
    record(new_run(folder, "second"), photo, range(1, 41), words="Moss on the roofs", rise=15)
    return folder


@pytest.fixture(scope="module")
def url(monitor, folder):
    return monitor(str(folder / "runs"), "--port", "0")


def test_every_view_opens_with_the_newest_run_and_without_an_error(page, url, screenshots):
    page.open(url)
    page.wait(ready("Rewards"))
    assert page.text("#runs input:checked + span b") == "second"
    for number, tab in enumerate([*TABS, "Rollouts", "Cluster"], 1):
        page.press(str(number))
        page.wait(
            f"{ready(tab)} && document.querySelector('[aria-selected=true]').innerText.startsWith({tab!r})"
        )
    page.press("1")
    page.wait("document.querySelectorAll('figure:not([hidden]) .line').length > 10")
    assert page.errors == []
    page.photograph(screenshots / "monitor.png")


def test_runs_are_compared_and_curves_are_read_with_the_keyboard(page, url):
    page.open(f"{url}/#tab=Rewards&runs=second|first&smooth=1")
    page.wait("document.querySelectorAll('#panel-total-reward g .line').length == 2")
    lines = "[...document.querySelectorAll('#panel-total-reward g .line')]"
    dashes = page.run(f"{lines}.map((line) => getComputedStyle(line).strokeDasharray)")
    assert len(set(dashes)) == 2  # told apart without colour
    page.press("c")
    for _ in range(2):
        page.press("Home")
        page.press("ArrowRight")
    assert page.run(LAST).startswith("step 2: second ") and "first" in page.run(LAST)
    page.click("#panel-reward-by-component [aria-pressed=false]")
    page.wait("document.querySelectorAll('#panel-reward-by-component g .line').length == 2")


def test_a_rollout_opens_with_picture_reasoning_map_and_scores(page, url, screenshots):
    page.open(f"{url}/#tab=Rollouts&runs=second")
    page.wait("document.querySelectorAll('.list [role=option]').length == 24")
    page.press("j")
    second = page.run("document.querySelectorAll('.list [role=option]')[1].dataset.at")
    page.wait(f"document.querySelector('article').dataset.at == {second!r}")
    page.wait("document.querySelector('article img').naturalWidth > 0")
    text = page.text("article")
    for said in (
        "policy version 39",
        "country: Germany",
        "Moss on the roofs leads to",
        "✗ disagrees",
        "judge derives",
        "304 km away",
        "spatial",
        "München",
    ):
        assert said in text
    assert page.run("document.querySelectorAll('.map circle').length") == 2
    whole = page.run("document.querySelector('.map').getAttribute('viewBox')")
    page.press("z")
    assert page.run("document.querySelector('.map').getAttribute('viewBox')") != whole
    page.photograph(screenshots / "monitor-rollout.png")
    page.run("document.querySelector('.filters [type=checkbox]').click()")
    page.wait("document.querySelector('[role=status]').innerText.includes('of 80')")


def test_nothing_that_a_model_wrote_becomes_part_of_the_page(page, url):
    page.open(f"{url}/#tab=Rollouts&runs=first")
    page.wait("document.querySelector('article pre')?.textContent.includes('<script>')")
    assert "<script>window.hacked" in page.text("article")
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('main script, main img[src=x]').length") == 0
    # Were it to become part of the page all the same, the page's own policy would still not let it
    # run.
    page.run(f"document.querySelector('main').insertAdjacentHTML('beforeend', {EVIL!r})")
    page.wait("document.querySelector('main img[src=x]').complete")
    assert page.run("window.hacked") is None
    assert any("Content Security Policy" in error for error in page.errors)


def test_the_buttons_change_the_number_of_replicas(page, folder):
    joined = Joined()
    with served(folder / "runs", joined) as port:
        page.open(f"http://127.0.0.1:{port}/#tab=Cluster")
        page.wait("document.querySelector('main').innerText.includes('rollout-abc-0')")
        assert page.run("document.getElementById('scale-judge-−').disabled")  # the last one stays
        page.run("document.getElementById('scale-judge-+').focus()")
        page.press("Enter")
        page.wait("document.querySelector('main').innerText.includes('2 running')")
        assert page.run("document.activeElement.id") == "scale-judge-+"
        assert joined.asked == [("judge", 2)] and page.errors == []


def test_curves_move_while_a_run_goes(page, monitor, tmp_path):
    run = new_run(tmp_path, "going")
    url = monitor(str(run.path), "--port", "0")
    page.open(url)
    page.wait("document.querySelector('#runs b')?.innerText == 'going'")
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
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(work)

    training = threading.Thread(target=train)
    training.start()
    try:
        page.wait("document.querySelector('#panel-total-reward g .line')")
        first = page.run("document.querySelector('#panel-total-reward g .line').getAttribute('d')")
        page.wait(
            f"document.querySelector('#panel-total-reward g .line').getAttribute('d') != {first!r}"
        )
        assert "going on" in page.text("#runs")
    finally:
        stop.set()
        training.join(30)
    assert not training.is_alive() and page.errors == []
