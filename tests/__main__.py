"""Run every test: `python -m tests`, which `make test` does. With words: pytest with these words.

Whole jobs take as long as everything else together, and both wait a lot (for starts, deaths and
deadlines), so they run side by side. What the others say is shown when they end. Interrupted, both
clean up and end."""

import subprocess
import sys
import tempfile
from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest"]
JOBS = str(Path("tests", "jobs"))


def main(words: list[str]) -> int:
    """Return the exit code: 0 where every test passed."""
    if words:
        return ended(subprocess.Popen([*PYTEST, *words]))
    with tempfile.TemporaryFile() as log:
        jobs = subprocess.Popen([*PYTEST, JOBS])
        command = [*PYTEST, "tests", f"--ignore={JOBS}"]
        codes = [ended(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))]
        log.seek(0)
        sys.stdout.buffer.write(log.read())
        sys.stdout.flush()
        codes.append(ended(jobs))
    return int(any(codes))


def ended(process: subprocess.Popen[bytes]) -> int:
    """Return its exit code. Wait also through Ctrl-C, which reaches it too: it has to clean up."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
