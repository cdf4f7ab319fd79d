"""What a small judge is worth that was trained on a large one's recorded verdicts: the tiny world.

    python -m tests.benchmarks.distilled_judge [--start tiny:60,new:300] [--strict]

The large judge is the world's own rule (tests/support/judged_scenes.py); --strict: one that finds
no conclusion in an argument that names a rival, which the tiny judge has never learnt. The small
one starts from the tiny judge's weights or from new ones of its shape, with so many steps. Prints
one JSON object for each start: the table of `judge distil`, and whether it meets the goal (at most
5 % go up, at least 98 % agreement)."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from cluster.jobs.distil import distil_judge
from tests.support.judged_scenes import record

GOAL = 0.98


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", type=int, default=700)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--start", default="tiny:60,new:300")
    parser.add_argument("--strict", action="store_true")
    words = parser.parse_args()
    torch.set_num_threads(1)  # such small layers gain nothing from more, and lose on shared cores
    with tempfile.TemporaryDirectory() as folder:
        run = record(Path(folder) / "run", words.photographs, words.answers, strict=words.strict)
        for start, steps in (word.split(":") for word in words.start.split(",")):
            table = distil_judge([run], Path(folder) / start, start, int(steps), 0.0, GOAL)
            met = table["raised_share"] <= 0.05 and table["cascade_agreement"] >= GOAL
            del table["runs"]
            print(json.dumps(table | {"goal_met": met}), flush=True)


if __name__ == "__main__":
    main()
