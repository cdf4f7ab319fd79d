"""Run every test: `python -m tests`, which `make test` does. With words: pytest with these words.

Most whole jobs take as long as everything else together, and both wait a lot (for starts, deaths
and deadlines), so they run side by side. What the others say is shown when they end. Interrupted,
both clean up and end."""

import subprocess
import sys
import tempfile
from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest"]
WITH_THE_OTHERS = "test_ablate.py"  # so that both sides take about as long


def main(words: list[str]) -> int:
    """Return the exit code: 0 where every test passed."""
    if words:
        return ended(subprocess.Popen([*PYTEST, *words]))
    with tempfile.TemporaryFile() as log:
        files = sorted(Path("tests", "jobs").glob("test_*.py"))
        whole = [str(file) for file in files if file.name != WITH_THE_OTHERS]
        jobs = subprocess.Popen([*PYTEST, *whole])
        command = [*PYTEST, "tests", *(f"--ignore={file}" for file in whole)]
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
