"""How long and how much memory `data sample` takes: python -m tests.benchmarks.sample [ROWS]
[csv|parquet|jsonl].

Makes a pool of ROWS (1,000,000) rows near real towns, without a country column (the slowest case:
every row's country is looked up), draws 20,000 in a process of its own and prints its seconds, of
the clock and of processors, and the peak of its resident memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas

from geoagent_rl.geo.gazetteer import Gazetteer

# Of the process's own memory: what getrusage says of children counts their parent's at the fork
# too.
MEASURED = """
from cluster.cli.main import main
try:
    main()
finally:
    print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


def make_pool(rows: int, path: Path) -> None:
    rng = np.random.default_rng(0)
    places = list(Gazetteer.open().places())
    weights = np.array([p.population for p in places], dtype=float)
    chosen = rng.choice(len(places), rows, p=weights / weights.sum())
    lat = np.array([p.lat for p in places])[chosen] + rng.normal(0, 0.1, rows)
    lon = np.array([p.lon for p in places])[chosen] + rng.normal(0, 0.1, rows)
    frame = pandas.DataFrame({"id": np.arange(rows), "latitude": lat.clip(-90, 90), "longitude": lon.clip(-180, 180),
                              "url": "https://example.org/some/photograph.jpg", "sequence": "a" * 22})  # fmt: skip
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    suffix = sys.argv[2] if len(sys.argv) > 2 else "csv"
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / f"pool.{suffix}"
        make_pool(rows, pool)
        words = ["data", "sample", str(pool), "--n", "20000", "--out", f"{folder}/sample.{suffix}"]
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *words], check=True, stdout=subprocess.PIPE, text=True
        )
        seconds, used = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime
        print(done.stdout)
        peak = int(done.stdout.split()[-2]) / 1024
        size = pool.stat().st_size / 1e6
        print(
            f"{rows:,} rows of {suffix} ({size:.0f} MB): {seconds:.1f} s ({cpu:.1f} s of CPU), peak {peak:.0f} MiB"
        )


if __name__ == "__main__":
    main()
