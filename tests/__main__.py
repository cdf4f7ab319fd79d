"""Run every test: `python -m tests`, which `make test` does. With words: pytest with these words.

Tests of real engines wait a lot (for starts, deaths and deadlines), so the others run beside them.
What those say is shown when both have ended. Interrupted, both clean up and end."""

import subprocess
import sys
import tempfile
from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest"]
STACK = Path("tests", "stack")


def main(words: list[str]) -> int:
    """Return the exit code: 0 where every test passed."""
    if words:
        return subprocess.call([*PYTEST, *words])
    with tempfile.TemporaryFile() as log:
        others = subprocess.Popen(
            [*PYTEST, "tests", f"--ignore={STACK}"], stdout=log, stderr=subprocess.STDOUT
        )
        failed = ended(subprocess.Popen([*PYTEST, str(STACK)])) | ended(others)
        log.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(log.read())
    return failed


def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process, also through Ctrl-C, which reaches it too: it has to clean up."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
