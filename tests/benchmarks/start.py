"""How long a start is silent: seconds to the first line and the longest gap between two, of a real
demo that ends after its first steps.

    python -m tests.benchmarks.start [OVERRIDE...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support import program
from tests.support.transcript import longest_silence, transcript

SMALL = ("steps=2", "scenes.sft=64", "sft.epochs=1", "scenes.heldout=32", "scenes.hidden=16")
LIMIT_S = 900


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = *SMALL, f"run.dir={Path(folder) / 'run'}", *sys.argv[1:]
        process = program.start("demo", *words)
        _, lines = transcript(process, LIMIT_S)
    print("\n".join(f"{at:7.1f} {line}" for at, line in lines))
    seconds, line = longest_silence(lines)
    print(f"first line after {lines[0][0]:.1f} s; longest silence {seconds:.1f} s, after: {line}")
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
