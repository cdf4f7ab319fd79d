"""What a small judge is worth that was trained on a large one's recorded verdicts: the tiny world.

    python -m tests.benchmarks.distilled_judge [--photographs 800] [--steps 300]

The large judge is the world's own rule (tests/support/judged_scenes.py), the small one starts from
new weights of the tiny judge's shape. Prints one JSON object: the table of `judge distil`, and
whether it meets the goal (at most 5 % go up, at least 98 % agreement)."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from cluster.jobs.distil import distil_judge
from tests.support.judged_scenes import record

GOAL = 0.98


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", type=int, default=800)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = record(Path(folder) / "run", words.photographs, words.answers)
        table = distil_judge([run], Path(folder) / "judge", "tiny", words.steps, 0.0, GOAL)
    met = table["raised_share"] <= 0.05 and table["cascade_agreement"] >= GOAL
    print(json.dumps({name: table[name] for name in table if name != "runs"} | {"goal_met": met}))


if __name__ == "__main__":
    main()
