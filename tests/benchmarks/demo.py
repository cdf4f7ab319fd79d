"""The whole demo in several decoupled seeds: minutes, peak memory, rise of the reward, hit rates,
weight-swap share.

    python -m tests.benchmarks.demo --seeds 3 [--out table.json] [dotted overrides ...]

Runs `geoagent-rl demo` in a process of its own for each pair (base seed, run seed) and samples the
resident memory of the whole process tree (proportional set size, so shared pages count once) every
second."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.program import PROGRAM


def tree_memory(pid: int) -> int:
    """Bytes of proportional resident memory of a process and all its descendants."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
    except psutil.Error:
        return total
    return total


def run(base_seed: int, seed: int, overrides: list[str]) -> dict:
    out = Path(tempfile.mkdtemp(prefix="geoagent-demo-")) / "run"
    command = [
        PROGRAM,
        "demo",
        f"run.dir={out}",
        f"run.seed={seed}",
    ]
    begin, peak = time.monotonic(), 0
    process = subprocess.Popen(
        [*command, f"policy.tiny_seed={base_seed}", *overrides], stdout=subprocess.PIPE, text=True
    )
    while True:
        try:
            printed, _ = process.communicate(timeout=1.0)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, tree_memory(process.pid))
    if process.returncode:
        sys.exit(f"the demo ended with exit code {process.returncode}")
    print(printed, flush=True)
    return summary(out, base_seed, seed, (time.monotonic() - begin) / 60, peak)


def summary(out: Path, base_seed: int, seed: int, minutes: float, peak: int) -> dict:
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    tables = json.loads((out / "eval.json").read_text())
    totals = [s["reward_total_mean"] for s in steps]
    sft, grpo, control = (tables[stage]["heldout"] for stage in ("sft", "grpo", "sft_no_hedge"))
    return {
        "base_seed": base_seed,
        "run_seed": seed,
        "minutes": round(minutes, 1),
        "peak_gib": round(peak / 2**30, 2),
        "reward_first5": round(statistics.fmean(totals[:5]), 3),
        "reward_last5": round(statistics.fmean(totals[-5:]), 3),
        "ratio": round(statistics.fmean(totals[-5:]) / statistics.fmean(totals[:5]), 3),
        "heldout_sft": round(sft["reward_total"], 3),
        "heldout_grpo": round(grpo["reward_total"], 3),
        "unhedging_share": round(
            (control["reward_total"] - sft["reward_total"])
            / (grpo["reward_total"] - sft["reward_total"]),
            3,
        ),
        **{
            f"{level}_{stage}": round(table[f"{level}_acc"], 3)
            for level in ("country", "region", "place")
            for stage, table in (("sft", sft), ("grpo", grpo))
        },
        **{
            f"hidden_region_{stage}": round(tables[stage]["hidden"]["region_acc"], 3)
            for stage in ("sft", "grpo")
        },
        "swap_share": round(
            sum(s["swap_seconds"] for s in steps) / sum(s["step_seconds"] for s in steps), 4
        ),
        "step_seconds": round(statistics.median(s["step_seconds"] for s in steps), 2),
        "reward_exposed_share": round(
            sum(s["reward_exposed_seconds"] for s in steps) / sum(s["step_seconds"] for s in steps),
            4,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    rows = []
    for i in range(args.seeds):
        rows.append(run(i, (i + 1) % args.seeds + 10, args.overrides))
        print(json.dumps(rows[-1]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
