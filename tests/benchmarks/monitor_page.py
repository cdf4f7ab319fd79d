"""How quickly the monitor's page opens on a long run: 5,000 steps and 100,000 rollouts, in a real
Chromium.

    python -m tests.benchmarks.monitor_page [--steps 5000] [--rollouts 100000]

Writes the run into a temporary folder (about 300 MB), starts `geoagent-rl monitor` and times, from
the moment at which the address is asked for: until the curves are drawn, and until the first page
of rollouts and the newest one are shown."""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.support.chromium import HELP, find
from tests.support.monitor_runs import new_run, photograph, record
from tests.support.program import PROGRAM

TEXT = "The road markings, the roofs and the moss on the walls point to the Alps. "


def long_run(folder: Path, steps: int, rollouts: int) -> Path:
    """A few real steps, repeated with other numbers: as many bytes per row as a real run has."""
    run, photo = new_run(folder, "long"), photograph(folder / "photos")
    record(run, photo, range(1, 101), groups=1, words=TEXT * 2)
    metrics, rows = run.rows("metrics.jsonl"), run.rows("rollouts.jsonl")
    each = rollouts // steps
    with (run.path / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            row = metrics[step % 100]
            more = {
                f"reward_{part}_extra": step / 7 for part in range(30)
            }  # as many columns as five parts and more give
            file.write(
                json.dumps({**row, **more, "step": step, "reward_total_mean": step / steps}) + "\n"
            )
    with (run.path / "rollouts.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            for i in range(each):
                file.write(
                    json.dumps({**rows[(step + i) % len(rows)], "step": step, "index": i}) + "\n"
                )
    return run.path


def timed(page: Page, url: str, shown: Locator) -> float:
    page.goto("about:blank")
    begin = time.monotonic()
    page.goto(url)
    shown.wait_for(state="attached", timeout=60_000)
    return time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument(
        "--repeats", type=int, default=3, help="with a new monitor each, so that nothing is cached"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ga-bench-", ignore_cleanup_errors=True) as name:
        run = long_run(Path(name), asked.steps, asked.rollouts)
        sizes = {file.name: round(file.stat().st_size / 1e6) for file in run.glob("*.jsonl")}
        with sync_playwright() as playwright:
            chromium = {"executable_path": find() or sys.exit(HELP), "args": ["--no-sandbox"]}
            browser = playwright.chromium.launch(**chromium)
            for _ in range(asked.repeats):
                command = [PROGRAM, "monitor", str(run), "--port", "0"]
                monitor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                url, page = monitor.stdout.readline().split()[0], browser.new_page()
                row = {"steps": asked.steps, "rollouts": asked.rollouts, "megabytes": sizes}
                drawn = page.locator("figure[data-lines]").nth(3)
                row["curves_s"] = round(timed(page, url, drawn), 2)
                shown = page.locator("article[data-at]")
                row["rollouts_s"] = round(timed(page, f"{url}/#tab=Rollouts", shown), 2)
                indexed = page.locator(".rollouts [role=status]")
                expect(indexed).to_have_text(re.compile("of [0-9,]+$"), timeout=60_000)
                row["indexed"] = indexed.inner_text()
                print(json.dumps(row), flush=True)
                page.close()
                monitor.send_signal(signal.SIGINT)
                monitor.wait(20)
            browser.close()


if __name__ == "__main__":
    main()
