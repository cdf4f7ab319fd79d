"""Run every test: `python -m tests`, which `make test` does. With the word `quick` the unit tests
alone, with any others pytest with these words.

The tests are cut into pieces, each a pytest of its own, and AT_ONCE of them run side by side: whole
jobs wait a lot (for starts, deaths and deadlines). What a piece says is shown when it ends.
Interrupted, those that run clean up and end, and no further one begins."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

PYTEST = [sys.executable, "-m", "pytest"]
AT_ONCE = 2
POLL_S = 0.5
# About half of the unit tests' time.
HALF = ("repository", "cluster", "prediction")
JOBS, CLUSTER = Path(__file__).parent / "jobs", "stack/test_cluster.py"
STACK, QUICK = "the rest of stack", "all other suites"
# In the order in which they begin; what is not named comes last. Long ones early, so that both
# sides end at about the same time.
ORDER = (
    "jobs/test_main_job.py",
    QUICK,
    STACK,
    "jobs/test_cluster_demo.py",
    "jobs/test_ablate.py",
    "jobs/test_jobs.py",
    CLUSTER,
)


@dataclass
class Piece:
    """A part of the tests; `words` are pytest's."""

    name: str
    words: list[str]
    log: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    begin: float = 0.0

    def start(self) -> None:
        self.begin = time.monotonic()
        command = [*PYTEST, *self.words]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)

    def show(self) -> None:
        """Print what it said, and how it ended."""
        self.log.seek(0)
        sys.stdout.buffer.write(self.log.read())
        code, seconds = self.process.returncode, time.monotonic() - self.begin
        print(f"=== {self.name}: exit code {code} after {seconds:.0f} s\n", flush=True)


def pieces() -> list[Piece]:
    """Return all tests, cut up: each whole job, the cluster's tests, and the rest."""
    files = [f"jobs/{file.name}" for file in sorted(JOBS.glob("test_*.py"))] + [CLUSTER]
    found = [Piece(name, [f"tests/{name}"]) for name in files]
    found += [
        Piece(STACK, ["tests/stack", f"--ignore=tests/{CLUSTER}"]),
        Piece(QUICK, ["tests", "--ignore=tests/stack", "--ignore=tests/jobs"]),
    ]
    place = {name: i for i, name in enumerate(ORDER)}
    return sorted(found, key=lambda piece: place.get(piece.name, len(place)))


def halves() -> list[Piece]:
    """Return the unit tests, cut in two."""
    folders = [f"tests/unit/{name}" for name in HALF]
    ignored = [f"--ignore={folder}" for folder in folders]
    return [
        Piece("unit: " + ", ".join(HALF), folders),
        Piece("unit: the others", ["tests/unit", *ignored]),
    ]


def main(words: list[str]) -> int:
    """Return the exit code: 0 where every test passed."""
    if words == ["quick"]:
        return run(halves())
    return ended(subprocess.Popen([*PYTEST, *words])) if words else run(pieces())


def run(waiting: list[Piece]) -> int:
    """Run these, AT_ONCE at a time; return the exit code."""
    running: list[Piece] = []
    codes: list[int] = []
    while waiting or running:
        try:
            while waiting and len(running) < AT_ONCE:
                running.append(waiting.pop(0))
                running[-1].start()
            time.sleep(POLL_S)
        except KeyboardInterrupt:  # it reaches the pieces too, which clean up and end
            codes += [130] * bool(waiting)
            waiting = []
        for piece in [p for p in running if p.process.poll() is not None]:
            running.remove(piece)
            codes.append(piece.process.returncode)
            piece.show()
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
