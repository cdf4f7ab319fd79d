"""What must be true of a run that has been through faults: its files alone are looked at.

Nothing lost, nothing twice, records whole, every number that of the undisturbed run, the policy the
same bytes, nothing half-written left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geoagent_rl.run import checkpoints
from geoagent_rl.run.records import record
from tests.support.killed_runs import difference, timeless

RECORDS = ("metrics.jsonl", "rollouts.jsonl")


def violations(run: Path, whole: Path, steps: int, samples: int) -> Iterator[str]:
    """Yield what is wrong with a finished run. whole: the undisturbed one; samples: of a step.

    Where a reward failed for good in the disturbed run the promise of equal numbers does not hold
    (docs/resume.md), and is not asked for; that no sample is lost always is."""
    yield from half_written(run)
    rows = {name: list(rows_of(run / name)) for name in RECORDS}
    damaged = [name for name, found in rows.items() if None in found]
    yield from (f"{name} has lines that are no records" for name in damaged)
    metrics, rollouts = ([row for row in rows[name] if row] for name in RECORDS)
    if [row["step"] for row in metrics] != list(range(1, steps + 1)):
        yield f"metrics.jsonl has the steps {[row['step'] for row in metrics]}"
    distinct = {(row["step"], row["uid"], row["index"]) for row in rollouts}
    if len(distinct) != len(rollouts):
        yield f"{len(rollouts) - len(distinct)} samples are recorded twice"
    lost = steps * samples - len(distinct)
    if lost and not (run / "dropped.jsonl").exists():
        yield f"{lost} samples are lost"
    if all(row["total"] is not None for row in rollouts) and not lost and not damaged:
        yield from others_than(run, whole)


def others_than(run: Path, whole: Path) -> Iterator[str]:
    """Yield what two finished runs differ in."""
    if found := difference(whole, run):
        yield f"other than undisturbed: {found[:400]}"
    if weights_of(run) != weights_of(whole):
        yield "the policy has other weights than undisturbed"
    if evaluations_of(run) != evaluations_of(whole):
        yield "eval.json is other than undisturbed"


def half_written(run: Path) -> Iterator[str]:
    """Yield what an end has left half, and what is damaged."""
    for left in run.rglob("*.part"):
        yield f"left behind: {left.relative_to(run)}"
    for checkpoint in checkpoints.complete(run / "checkpoints"):
        if problem := checkpoints.damage(checkpoint):
            yield f"{checkpoint.name}: {problem}"
    if not (run / "done.json").exists():
        yield "the run is not marked as done"


def rows_of(file: Path) -> Iterator[dict[str, Any] | None]:
    """Yield a file's records, None for what is none."""
    for line in file.read_bytes().splitlines(keepends=True) if file.exists() else ():
        yield record(line) if line.endswith(b"\n") else None


def weights_of(run: Path) -> dict[str, str]:
    """Return the digests of the policy's weight files."""
    files = sorted((run / "policy").glob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def evaluations_of(run: Path) -> Any:
    """Return eval.json without times."""
    file = run / "eval.json"
    return timeless(json.loads(file.read_text())) if file.exists() else {}
