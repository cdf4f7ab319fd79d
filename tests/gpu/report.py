"""docs/gpu.md, or the constants of `plan`, from what the GPU scripts wrote.

    python -m tests.gpu.report docs/gpu.jsonl > docs/gpu.md
    python -m tests.gpu.report --constants docs/gpu.jsonl > geoagent_rl/assets/gpu_measured.json

A file may hold several runs, one after the other: append a new card's files to docs/gpu.jsonl."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from geoagent_rl.plan.gpus import SHEETS
from geoagent_rl.plan.measured import Run, measured_rates, read
from tests.gpu.report_tables import (
    engine_parts,
    judge_part,
    learner_parts,
    rounding_part,
    runs_table,
)

TEXT = Path(__file__).with_name("report.md")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--constants", action="store_true", help="for plan/measured.py")
    asked = parser.parse_args(argv)
    runs = [run for file in asked.files for run in read(file)]
    if asked.constants:
        print(json.dumps(measured_rates(runs, SHEETS), indent=1, sort_keys=True))
    else:
        sys.stdout.write(page(runs))
    return 0


def of_script(runs: list[Run], script: str) -> list[Run]:
    """Return a script's runs on GPUs."""
    return [run for run in runs if run[0]["script"] == script and run[0]["case"] != "CPU"]


def page(runs: list[Run]) -> str:
    """Return docs/gpu.md: the text, with a table where it says {name}."""
    parts = {
        "runs": runs_table(runs),
        "engine": engine_parts(of_script(runs, "engine_cycle")),
        "rounding": rounding_part(runs),
        "learner": learner_parts(of_script(runs, "learner_bench")),
        "judge": judge_part(runs),
    }
    text = TEXT.read_text()
    for name, table in parts.items():
        text = text.replace(f"{{{name}}}", table)
    return text


if __name__ == "__main__":
    sys.exit(main())
