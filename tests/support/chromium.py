"""Finds a Chromium for the browser tests; as a script also installs Debian's, when run by root
without one.

`make test` runs it, so that CI needs nothing installed by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HELP = (
    "no Chromium for the browser tests: install it (Debian: apt-get install chromium), name one in CHROMIUM, or leave "
    'these tests out: make test ARGS="--ignore=tests/browser"'
)
INSTALL_S = 600


def find() -> str | None:
    """The path of the browser: $CHROMIUM, or the first one known on PATH."""
    return next(
        filter(None, map(shutil.which, filter(None, (os.environ.get("CHROMIUM"), *NAMES)))), None
    )


def main() -> None:
    if find():
        return
    if os.geteuid() or not shutil.which("apt-get"):
        print(HELP, file=sys.stderr)
        return
    print("installing Debian's Chromium for the browser tests", file=sys.stderr, flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["update", "-qq"],
        ["install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
    ):
        done = subprocess.run(
            ["apt-get", *command], env=env, stdout=subprocess.DEVNULL, timeout=INSTALL_S
        )
        if done.returncode:
            print(f"apt-get {command[0]} failed; {HELP}", file=sys.stderr)
            return


if __name__ == "__main__":
    main()
