"""Kills a run again and again, resumes it each time, and compares it with an uninterrupted one,
value for value.

    python -m tests.benchmarks.resume [--policy DIR] [--steps 12] [--save-every 2] [--seed 0]
                                      [--kills driver,engine,learner,ray] [--keep DIR]
                                      [dotted overrides ...]

One reference run, then one run for each part named in --kills, hit three times at random moments
(of three different steps) and resumed after each. Prints a line per kill and one JSON object; exit
code 1 when anything differs. --policy: where GRPO starts (a real policy gets real rewards);
default: the tiny policy of `train` itself."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.support import killed_runs

LIMIT_S = 900.0
POINTS = 3
SMALL = [
    "rollout.prompts_per_step=6",
    "rollout.group_size=6",
    "scenes.train=48",
    "run.keep_checkpoints=3",
]
PROGRAM = (sys.executable, "-c", "from cluster.cli.main import main; main()")


def finish(run: Path, words: list[str]) -> None:
    process = killed_runs.train(*words, f"run.dir={run}", program=PROGRAM)
    _, said = process.communicate(timeout=LIMIT_S)
    if process.returncode:
        sys.exit(f"the run ended with exit code {process.returncode}:\n{said[-4000:]}")


def note(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="tiny")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--kills", default="driver,engine,learner,ray")
    parser.add_argument("--save-every", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    words = [
        "--config",
        "configs/local.yaml",
        *SMALL,
        f"policy.model={args.policy}",
        f"steps={args.steps}",
    ]
    words += [f"run.save_every={args.save_every}", *args.overrides]
    folder = args.keep or Path(tempfile.mkdtemp(prefix="geoagent-resume-"))
    begin = time.monotonic()
    finish(folder / "whole", words)
    table = {"reference_s": round(time.monotonic() - begin, 1), "parts": {}, "differences": {}}
    for part in args.kills.split(","):
        if part == "none":  # the same run twice
            finish(folder / part, words)
        else:
            when = sorted(chance.sample(range(1, args.steps - 2), POINTS))
            kills = [(step, part, round(chance.uniform(0, 2.0), 2)) for step in when]
            said = killed_runs.killed_and_resumed(
                words, folder / part, kills, LIMIT_S, PROGRAM, note
            )
            lives = 1 + sum(
                line.startswith(("resuming after", "no checkpoint yet"))
                for line in "".join(said).splitlines()
            )
            table["parts"][part] = {"kills": kills, "lives": lives}
        table["differences"][part] = killed_runs.difference(folder / "whole", folder / part)
        print(f"{part}: {table['differences'][part] or 'equal, value for value'}", flush=True)
    print(json.dumps(table))
    sys.exit(any(table["differences"].values()))


if __name__ == "__main__":
    main()
