"""How quickly the page of `reward explain RUN` opens in a real Chromium when the run has 10,000
answers: from asking for the file until its last card is laid out and every photograph decoded.

    python -m tests.benchmarks.explain_page [--answers 10000] [--worst 200]

Prints the seconds that the command took to write the page too, and the page's size."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.monitor_page import long_run
from tests.support import program
from tests.support.chromium import HELP, find

WRITE_S = 120
SHOWN = """async () => {
    await Promise.all([...document.images].map(image => image.decode()));
    return document.querySelector('.rollout:last-of-type').getBoundingClientRect().bottom;
}"""


def opened(page: Page, file: Path) -> float:
    """Return the seconds until all of a page is shown."""
    page.goto("about:blank")
    begin = time.monotonic()
    page.goto(file.as_uri())
    assert page.evaluate(SHOWN) > 0
    return time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--worst", type=int, default=200, help="cards on the page")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ga-bench-") as folder:
        run = long_run(Path(folder), asked.answers // 100, asked.answers)
        file, begin = Path(folder) / "page.html", time.monotonic()
        words = "reward", "explain", run, "--worst", asked.worst, "--html", file
        done = program.run(*words, timeout=WRITE_S)
        assert done.returncode == 0, done.stderr
        row = {"answers": asked.answers, "write_s": round(time.monotonic() - begin, 2)}
        row["megabytes"] = round(file.stat().st_size / 1e6, 2)
        with sync_playwright() as playwright:
            chromium = {"executable_path": find() or sys.exit(HELP), "args": ["--no-sandbox"]}
            browser = playwright.chromium.launch(**chromium)
            page = browser.new_page()
            row["open_s"] = [round(opened(page, file), 2) for _ in range(asked.repeats)]
            browser.close()
        print(json.dumps(row))


if __name__ == "__main__":
    main()
