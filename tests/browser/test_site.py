"""The documentation's site in a real Chromium: its search finds a word, and no page has a serious
fault in either theme or is wider than a phone.
"""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from functools import partial

import pytest
from playwright.sync_api import expect

from tests.support.paths import ROOT

PAGES = ("index", "tutorials/laptop", "configuration", "recipes-compared", "python")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=55)
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=folder)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_serious_fault_in_either_theme_and_fits_a_phone(
    page, address, faults, narrow, name
):
    found = {}
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.goto(f"{address}/{name}.html")
        found[theme] = faults(page)
    assert found == {"light": [], "dark": []}
    assert narrow(page)


def test_the_search_finds_a_word_and_leads_to_where_it_stands(page, address):
    page.goto(f"{address}/index.html")
    box = page.get_by_placeholder("Search")
    box.click()
    ready = expect(page.locator(".md-search-result__meta"))
    ready.to_have_text("Type to start searching", timeout=30_000)  # the index has been read
    box.press_sequentially("curriculum")  # the box listens to keys
    first = page.locator(".md-search-result__item a").first
    expect(first).to_contain_text("Configuration", timeout=30_000)
    first.click()
    expect(page).to_have_url(re.compile(r"/configuration\.html"))
