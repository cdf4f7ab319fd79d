"""A Chromium for the browser tests, driven by Playwright, and the monitor as a user starts it."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.support import program
from tests.support.chromium import HELP, find

STOP_S = 20
WAIT_MS = 30_000  # for anything that a page should come to show
COLOURS = 128  # of a picture: few, so that it is small
SHARP = 1.5  # pixels of a picture for the documentation to one of the page
# A frame of another site is a process of its own, as at a user's; little /dev/shm, no GPU.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--site-per-process",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each file: Playwright's loop may not run beside that of other files' tests."""
    path = find()
    if path is None:
        pytest.fail(HELP, pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 800},
        device_scale_factor=SHARP if os.environ.get("GEOAGENT_SCREENSHOTS") else 1,
        reduced_motion="reduce",
    )
    opened = context.new_page()
    opened.set_default_timeout(WAIT_MS)
    yield opened
    context.close()


@pytest.fixture
def phone(browser) -> Iterator[Page]:
    """A page on a screen that fingers touch."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def touch() -> Callable[[Page, Locator, list[list[tuple[float, float]]]], None]:
    """Fingers down, moved and up again: where they are at each moment, as shares of an element."""

    def move(page: Page, on: Locator, moments: list[list[tuple[float, float]]]) -> None:
        on.scroll_into_view_if_needed()  # and wait until it stands still: charts above may come
        box, session = on.bounding_box(), page.context.new_cdp_session(page)
        assert box is not None
        for kind, fingers in (
            ("Start", moments[0]),
            *(("Move", m) for m in moments[1:]),
            ("End", []),
        ):
            points = [
                {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "id": i}
                for i, (x, y) in enumerate(fingers)
            ]
            session.send(
                "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points}
            )
        session.detach()

    return move


@pytest.fixture
def errors(page) -> list[str]:
    """What the page's scripts threw and what its content policy refused."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda said: found.append(said.text) if said.type == "error" else None)
    return found


@pytest.fixture(scope="session")
def faults() -> Callable[[Page], list[str]]:
    """Serious and critical faults that axe-core finds in what a page shows."""

    def find(page: Page) -> list[str]:
        found = Axe().run(page).response["violations"]
        return [
            f"{fault['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    return find


@pytest.fixture(scope="session")
def narrow() -> Callable[[Page], bool]:
    """Whether nothing of a page is wider than a phone's screen."""

    def fits(page: Page) -> bool:
        page.set_viewport_size({"width": 390, "height": 844})
        page.evaluate(
            "() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
        )
        return page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    return fits


@pytest.fixture(scope="module")
def monitor():
    """Starts `geoagent-rl monitor` with the words given and returns its address; all are ended by
    Ctrl-C.
    """
    started = []

    def start(*words: str) -> str:
        started.append(program.start("monitor", *words, stderr=None))
        line = started[-1].stdout.readline()
        assert line.startswith("http://"), f"the monitor said {line!r}"
        return line.split()[0]

    yield start
    for process in started:
        process.send_signal(signal.SIGINT)
    assert [process.wait(STOP_S) for process in started] == [130] * len(started)


@pytest.fixture(scope="session")
def real_run() -> Path | None:
    """The run that the documentation's pictures show: GEOAGENT_RUN, or none."""
    named = os.environ.get("GEOAGENT_RUN")
    return Path(named).resolve() if named else None


@pytest.fixture(scope="session")
def photograph(tmp_path_factory) -> Callable[[Page, str], None]:
    """Keeps a picture of what a page shows, in GEOAGENT_SCREENSHOTS (docs, to make the
    documentation's anew) or a temporary folder.
    """
    named = os.environ.get("GEOAGENT_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")

    def keep(page: Page, name: str) -> None:
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(folder / name, optimize=True)

    return keep
