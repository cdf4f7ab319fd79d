"""Some rows of one seed of an ablation, in one Ray session, with base and SFT shared between them.

Reads OUT/config.yaml and OUT/rows.json, which cluster/jobs/ablate.py wrote, and leaves a run
directory OUT/seed-SEED/ROW for each row, with row.json once the row is finished. A row with
checkpoints goes on from the newest one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
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
from geoagent_rl.run.directory import CONFIG, RunDir, given_id
from geoagent_rl.run.log import logged
from geoagent_rl.terminal import say
from geoagent_rl.types import PolicyVersion

PROMPT = "policy.system_prompt"
ROWS = "rows.json"  # in OUT: every row ever asked for there
DONE = "row.json"  # in a row's run directory: the row is finished


def seed_dir(out: Path, seed: int) -> Path:
    """Return the folder of all rows with this seed."""
    return out / f"seed-{seed}"


def row_dir(out: Path, row: str, seed: int) -> Path:
    """Return a row's run directory."""
    return seed_dir(out, seed) / row


def run_rows(out: Path, seed: int, names: Sequence[str]) -> None:
    """Bring every named row of the seed to its end. Raises UserError when another process is at one
    of them."""
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
        starts = {row.cold_start: row for row in rows if row.cold_start}
        starts = {name: row for name, row in starts.items() if not self.policy(name).exists()}
        shown = dataset(c, shared, c.sft.manifest or c.data.manifest, "sft") if starts else []
        base = starting_base(c)
        run_until_done(self.work(rows, base, list(starts.values()), shown))

    async def work(
        self,
        rows: Sequence[AblationRow],
        base: str,
        starts: Sequence[AblationRow],
        shown: Sequence[Sample],
    ) -> None:
        """Make the missing cold starts, one for each answer form, then bring the rows to their
        ends.
        """
        # Of the session: its cache, its notes.
        place = seed_dir(self.out, self.seed) / f"job-{rows[0].name}"
        place.mkdir(parents=True, exist_ok=True)
        async with session(self.config, place) as s:
            for row in starts:
                asked = dataclasses.replace(s, config=asking(self.config, row))
                await self.cold_start(asked, self.policy(row.cold_start), base, shown)
            for sharing in together(rows, self.config):
                asked = dataclasses.replace(s, config=asking(self.config, sharing[0]))
                async with running_stack(asked, self.start_of(sharing[0], base)) as stack:
                    for row in sharing:
                        with logged(row_dir(self.out, row.name, self.seed)):
                            await self.row(s, stack, row, self.start_of(row, base))

    def policy(self, cold_start: str) -> Path:
        """Return where the cold start of this name is or will be, shared by rows of the seed."""
        return row_dir(self.out, cold_start, self.seed) / "policy"

    def start_of(self, row: AblationRow, base: str) -> str:
        return str(self.policy(row.cold_start)) if row.cold_start else base

    async def cold_start(
        self, s: Session, policy: Path, base: str, shown: Sequence[Sample]
    ) -> None:
        run = RunDir(policy.parent).begin(s.config)  # kept, should its own row not begin
        sweep(policy)  # of an earlier try that was killed
        (run.path / "sft_metrics.jsonl").unlink(missing_ok=True)
        with directory_at_once(policy) as part:
            await cold_start(s, run, base, shown, part)

    async def row(self, s: Session, stack: Stack, row: AblationRow, start: str) -> None:
        """Train (where the row says so) and evaluate one row; write its report and, last of all,
        row.json."""
        path = row_dir(self.out, row.name, self.seed)
        config = row_config(self.out, row, self.seed)
        run = RunDir(path).begin(config)
        resume = bool(run.checkpoints())
        if not resume:
            run.truncate(0)
        s = dataclasses.replace(s, config=config, run_id=given_id(path), run_dir=path)
        say(f"seed {self.seed}, {row.title}" + (" (continues)" if resume else ""))
        # Then the engines hold what the row before left in them.
        shared = config.rollout.swap == "merged"
        services, form = stack.services.services, config.policy.answer
        stack = dataclasses.replace(
            stack,
            model_dir="" if shared else start,
            scorer=Scorer(services, config.reward, form),
            evaluation_scorer=Scorer(services, stack.evaluation_scorer.config, form),
        )
        if row.grpo:
            await reinforce(s, stack, run, start, self.train, self.held, resume)
        elif shared:
            for engine in stack.engines:
                await engine.swap(PolicyVersion(0, "checkpoint", start))
        stage = "grpo" if row.grpo else row.start
        table = await measure(s.config, stack, run, stage, "heldout", self.held)
        write_report(path)
        write_json(path / DONE, {"row": row.name, "seed": self.seed, "table": table})


def together(rows: Sequence[AblationRow], config: Config) -> list[list[AblationRow]]:
    """Return rows that can use the same engines in turn: all of one prompt where adapters are
    merged into a base that any other can follow. Where they are served, each row gets engines of
    its own."""
    if config.rollout.swap != "merged":
        return [[row] for row in rows]
    by_prompt: dict[str, list[AblationRow]] = {}
    for row in rows:
        by_prompt.setdefault(row.overrides.get(PROMPT, ""), []).append(row)
    return list(by_prompt.values())


def asking(config: Config, row: AblationRow) -> Config:
    """Return the configuration with the row's prompt and answer form, and nothing else of it."""
    prompt = row.overrides.get(PROMPT, config.policy.system_prompt)
    policy = dataclasses.replace(config.policy, system_prompt=prompt, answer=row.answer)
    return dataclasses.replace(config, policy=policy)


def row_config(out: Path, row: AblationRow, seed: int) -> Config:
    """Return the configuration of a row."""
    path = row_dir(out, row.name, seed)
    return load(out / CONFIG, [*row.dotlist(), f"run.seed={seed}", f"run.dir={path}"])
