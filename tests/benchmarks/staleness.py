"""What a step of staleness is worth when rewards are slow: `train` on the real stack with a
geocoder that is.

    python -m tests.benchmarks.staleness [--policy DIR] [--delay 3] [--steps 6] [--ahead 0,1]
                                         [dotted overrides ...]

A local server plays Photon and answers every request after --delay seconds; the cache is off, so
each sample waits.
Prints one JSON object: per max_staleness the median wall time of a step, the learner's idle time by
cause, the age."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support import geocoder_server, killed_runs

SMALL = [
    "rollout.prompts_per_step=8",
    "rollout.group_size=8",
    "scenes.train=64",
    "run.save_every=1000",
]
COLUMNS = (
    "step_seconds",
    "reward_exposed_seconds",
    "rollout_wait_seconds",
    "learn_busy_seconds",
    "staleness_mean",
)


def measure(url: str, staleness: int, folder: Path, words: list[str]) -> dict[str, float]:
    slow = [
        "reward.cache.url=off",
        "reward.geocoder.provider=photon",
        f"reward.geocoder.photon.url={url}",
    ]
    slow += ["reward.geocoder.photon.rate_per_s=10000", "reward.geocoder.in_flight=256"]
    run = folder / f"staleness-{staleness}"
    process = killed_runs.train(*words, *slow, f"max_staleness={staleness}", f"run.dir={run}")
    _, said = process.communicate(timeout=900)
    if process.returncode:
        sys.exit(said[-4000:])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steady = rows[1 + staleness : len(rows) - staleness or None]  # the pipeline is full
    return {name: round(statistics.median(row[name] for row in steady), 3) for name in COLUMNS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="tiny")
    parser.add_argument("--delay", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--ahead", default="0,1")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    words = [
        "--config",
        "configs/local.yaml",
        *SMALL,
        f"policy.model={args.policy}",
        f"steps={args.steps}",
    ]

    def late(path: str, query: str, key: str) -> None:
        time.sleep(args.delay)

    with (
        geocoder_server.serving({"": geocoder_server.GERMANY}, late) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        ahead = [int(n) for n in args.ahead.split(",")]
        table = {n: measure(server.url, n, Path(folder), [*words, *args.overrides]) for n in ahead}
    print(json.dumps({"delay_s": args.delay, "max_staleness": table}))


if __name__ == "__main__":
    main()
