"""What it costs to cut a million rollouts back to a checkpoint ten steps before their end.

    python tests/benchmarks/long_records.py [--rows 1000000] [--row-bytes 3400] [--steps-cut 10]

Writes a rollouts.jsonl and a metrics.jsonl of a run of that length to a temporary folder, restores
the run in a process of its own, and prints seconds and the growth of memory."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PER_STEP = 128
RESTORE = """
import resource, sys, time
from geoagent_rl.run.directory import RunDir
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
run = RunDir(sys.argv[1])
assert run.recorded_steps() == int(sys.argv[2])
run.truncate(int(sys.argv[3]))
run.best()
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(f"{time.monotonic() - start:.2f} s, {grown / 1024:.0f} MiB")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-bytes", type=int, default=3400)
    parser.add_argument("--steps-cut", type=int, default=10)
    args = parser.parse_args()
    steps = args.rows // PER_STEP
    with tempfile.TemporaryDirectory() as folder:
        text = "x" * args.row_bytes
        with Path(folder, "rollouts.jsonl").open("w") as rollouts:
            for step in range(1, steps + 1):
                rollouts.write((json.dumps({"step": step, "text": text}) + "\n") * PER_STEP)
        with Path(folder, "metrics.jsonl").open("w") as metrics:
            for step in range(1, steps + 1):
                row = {f"metric_{i}": i / 7 for i in range(80)}
                metrics.write(json.dumps({"step": step, **row}) + "\n")
        size = Path(folder, "rollouts.jsonl").stat().st_size
        words = [sys.executable, "-c", RESTORE, folder, str(steps), str(steps - args.steps_cut)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        print(f"{steps * PER_STEP} rollouts, {size / 2**30:.2f} GiB: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
