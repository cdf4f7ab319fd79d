"""One job of an ablation: some rows of one seed, in one Ray session, with base and SFT shared
between them.

    python -m cluster.jobs.ablate_job OUT SEED ROW...

reads OUT/config.yaml and OUT/rows.json, which cluster/jobs/ablate.py wrote, and leaves a run
directory OUT/seed-SEED/ROW for each row, with row.json once the row is finished. A row with
checkpoints goes on from the newest one. It runs alike as a process of its own and as a Ray job."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.jobs.grpo import reinforce
from cluster.jobs.stages import cold_start, dataset, measure, starting_base
from cluster.launch import Session, Stack, run_until_done, running_stack, session
from geoagent_rl.config import Config, load
from geoagent_rl.data.sample import Sample
from geoagent_rl.evaluation.ablations import AblationRow
from geoagent_rl.files import directory_at_once, sweep, write_json
from geoagent_rl.pages.report import write_report
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.run.directory import CONFIG, RunDir, run_id_of
from geoagent_rl.terminal import errors_in_one_line, say
from geoagent_rl.types import PolicyVersion

ROWS = "rows.json"  # in OUT: every row ever asked for there
DONE = "row.json"  # in a row's run directory: the row is finished


def seed_dir(out: Path, seed: int) -> Path:
    """Return the folder of all rows with this seed."""
    return out / f"seed-{seed}"


def row_dir(out: Path, row: str, seed: int) -> Path:
    """Return a row's run directory."""
    return seed_dir(out, seed) / row


def run_rows(out: Path, seed: int, names: Sequence[str]) -> None:
    """Brings every named row of the seed to its end. Raises UserError when another process is at
    one of them.
    """
    rows = [
        row
        for row in (AblationRow(**kept) for kept in json.loads((out / ROWS).read_text()))
        if row.name in names
    ]
    with contextlib.ExitStack() as locks:
        for row in rows:
            locks.enter_context(RunDir(row_dir(out, row.name, seed)).exclusive())
        _Job(out, seed).run(
            [row for row in rows if not (row_dir(out, row.name, seed) / DONE).exists()]
        )


class _Job:
    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        self.config = load(out / CONFIG, [f"run.seed={seed}"])
        self.sft = (
            row_dir(out, "sft", seed) / "policy"
        )  # the cold start, shared by all rows of the seed

    def run(self, rows: Sequence[AblationRow]) -> None:
        if not rows:
            return
        c = self.config
        shared = RunDir(seed_dir(self.out, self.seed))
        self.held = dataset(c, shared, c.data.eval_manifest or c.data.manifest, "heldout")[
            : c.eval.samples
        ]
        grpo = any(row.grpo for row in rows)
        self.train = dataset(c, shared, c.data.manifest, "train") if grpo else []
        needs_sft = any(row.start == "sft" for row in rows) and not self.sft.exists()
        shown = dataset(c, shared, c.sft.manifest or c.data.manifest, "sft") if needs_sft else []
        base = starting_base(c)
        run_until_done(self.work(rows, base, shown))

    async def work(self, rows: Sequence[AblationRow], base: str, shown: Sequence[Sample]) -> None:
        place = (
            seed_dir(self.out, self.seed) / f"job-{rows[0].name}"
        )  # of the session: its cache, its notes
        place.mkdir(parents=True, exist_ok=True)
        async with session(self.config, place) as s:
            if shown:
                await self.cold_start(s, base, shown)
            for sharing in together(rows, self.config):
                async with running_stack(s, self.start_of(sharing[0], base)) as stack:
                    for row in sharing:
                        await self.row(s, stack, row, self.start_of(row, base))

    def start_of(self, row: AblationRow, base: str) -> str:
        return base if row.start == "base" else str(self.sft)

    async def cold_start(self, s: Session, base: str, shown: Sequence[Sample]) -> None:
        run = RunDir(self.sft.parent)
        sweep(self.sft)  # of an earlier try that was killed
        (run.path / "sft_metrics.jsonl").unlink(missing_ok=True)
        with directory_at_once(self.sft) as part:
            await cold_start(s, run, base, shown, part)

    async def row(self, s: Session, stack: Stack, row: AblationRow, start: str) -> None:
        """Trains (where the row says so) and evaluates one row; writes its report and, last of all,
        row.json.
        """
        path = row_dir(self.out, row.name, self.seed)
        config = row_config(self.out, row, self.seed)
        run = RunDir(path).begin(config)
        resume = bool(run.checkpoints())
        if not resume:
            run.truncate(0)
        s = dataclasses.replace(s, config=config, run_id=run_id_of(path), run_dir=path)
        say(f"seed {self.seed}, {row.title}" + (" (continues)" if resume else ""))
        shared = (
            config.rollout.swap == "merged"
        )  # then the engines hold what the row before left in them
        if row.grpo:
            holds = "" if shared else start
            stack = dataclasses.replace(
                stack,
                model_dir=holds,
                scorer=Scorer(stack.services.services, config.reward, config.policy.answer),
            )
            await reinforce(s, stack, run, start, self.train, self.held, resume)
        elif shared:
            for engine in stack.engines:
                await engine.swap(PolicyVersion(0, "checkpoint", start))
        stage = "grpo" if row.grpo else row.start
        table = await measure(s.config, stack, run, stage, "heldout", self.held)
        write_report(path)
        write_json(path / DONE, {"row": row.name, "seed": self.seed, "table": table})


def together(rows: Sequence[AblationRow], config: Config) -> list[list[AblationRow]]:
    """Return rows that can use the same engines in turn: all where adapters are merged into a
    base that any other can follow. Where they are served, each row gets engines of its own."""
    return [list(rows)] if config.rollout.swap == "merged" else [[row] for row in rows]


def row_config(out: Path, row: AblationRow, seed: int) -> Config:
    """Return the configuration of a row."""
    path = row_dir(out, row.name, seed)
    return load(out / CONFIG, [*row.dotlist(), f"run.seed={seed}", f"run.dir={path}"])


def main() -> None:
    """Run the rows that the command line names."""
    out, seed, *rows = sys.argv[1:]
    with errors_in_one_line():
        run_rows(Path(out), int(seed), rows)


if __name__ == "__main__":
    main()
