"""How long `eval score` takes with its start-up: python -m tests.benchmarks.score [ROWS] (3,000),
five times.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas

from tests.support.program import PROGRAM


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "predictions.csv"
        columns = {
            name: rng.uniform(-80, 80, rows)
            for name in ("gt_lat", "gt_lon", "pred_lat", "pred_lon")
        }
        pandas.DataFrame({"uid": range(rows), **columns}).to_csv(file, index=False)
        command = [
            PROGRAM,
            "eval",
            "score",
            str(file),
            "--json",
        ]
        wall, cpu = [], []
        for _ in range(5):
            begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True)
            wall.append(time.monotonic() - begin)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    took, used = statistics.median(wall), statistics.median(cpu)
    print(f"{rows:,} rows: {took:.2f} s of wall time, {used:.2f} s of CPU (medians of 5)")


if __name__ == "__main__":
    main()
