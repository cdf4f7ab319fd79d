"""One Chromium for all browser tests, and the monitor as a user starts it."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from tests.support import program
from tests.support.chromium import HELP, find
from tests.support.devtools import Browser, Page

STOP_S = 20


@pytest.fixture(scope="session")
def browser():
    path = find()
    if path is None:
        pytest.fail(HELP, pytrace=False)
    with tempfile.TemporaryDirectory(prefix="ga-chromium-", ignore_cleanup_errors=True) as profile:
        running = Browser(path, Path(profile))
        yield running
        running.stop()


@pytest.fixture
def page(browser) -> Page:
    opened = browser.page()
    yield opened
    opened.close()


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
def screenshots(tmp_path_factory) -> Path:
    """Where pictures go: GEOAGENT_SCREENSHOTS (docs, to make the documentation's anew) or a
    temporary folder.
    """
    named = os.environ.get("GEOAGENT_SCREENSHOTS")
    return Path(named) if named else tmp_path_factory.mktemp("screenshots")
