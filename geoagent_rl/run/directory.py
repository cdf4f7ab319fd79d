"""A run's directory: everything that a person or a later command wants to know of a run lies here.

    config.yaml        the configuration as it ran
    metrics.jsonl      one line per optimizer step (names and units: telemetry.METRICS)
    sft_metrics.jsonl  the same for Step II
    rollouts.jsonl     every scored completion: text, levels, parts with reasons, advantage, version
    eval.json          {stage: {split: metrics}} for the stages base, sft, grpo
    predictions/       STAGE-SPLIT.jsonl, what eval.json was computed from, a row per photograph
    checkpoints/       step-000040/ (learner state: adapter, optimizer, scheduler, RNGs): the newest
                       few and the best
    policy/            the merged checkpoint of the last finished stage, for transformers and vLLM
    report.html        the report

Lines are flushed as they are written. May know nothing of Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from geoagent_rl.config import Config, flat, overridden, to_yaml
from geoagent_rl.files import PART, keep_lines, sweep, write_json, write_text
from geoagent_rl.run import checkpoints
from geoagent_rl.types import Group, UserError

BY_STEP = (
    "metrics.jsonl",
    "rollouts.jsonl",
)  # what a resumed run goes on writing, cut back to its checkpoint
HARMLESS = (
    "run.dir",
    "run.keep_checkpoints",
    "run.save_every",
)  # settings that no number of a run depends on


class RunDir:
    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self.waiting: dict[str, list[str]] = {}  # lines by file that the disk has not taken
        self.problems: list[str] = []

    @classmethod
    def create(cls, config: Config, resume: bool = False) -> RunDir:
        """A new run directory, or, with `resume`, an existing one. Raises UserError instead of
        mixing two runs.
        """
        run = cls(config.run.dir or f"runs/{time.strftime('%Y%m%d-%H%M%S')}")
        if (run.path / "metrics.jsonl").exists() and not resume:
            raise UserError(
                f"{run.path} already holds a run; give another run.dir, or --resume to continue it"
            )
        if resume and not run.path.is_dir():
            raise UserError(f"nothing to resume: there is no {run.path}")
        try:
            (run.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the run directory {run.path}: {error.strerror}; set run.dir"
            ) from None
        write_text(run.path / "config.yaml", to_yaml(config))
        return run

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """For as long as a process writes here. The lock goes with the process, however that
        ends.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is working in {self.path}; wait for it or stop it"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds JSON lines to the file `name`. Lines that a full disk does not take wait for the
        next call; `problems` says so."""
        lines = self.waiting.pop(name, []) + [
            json.dumps(row, ensure_ascii=False) + "\n" for row in rows
        ]
        path = self.path / name
        before = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.writelines(lines)
        except OSError as error:
            if path.exists():
                os.truncate(path, before)  # no half line
            self.waiting[name] = lines
            self.problems.append(
                f"{path}: {error.strerror}; {len(lines)} lines wait for the next step"
            )

    def take_problems(self) -> list[str]:
        """What could not be written since the last call."""
        problems, self.problems = self.problems, []
        return problems

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of the file `name`, none where it does not exist; without a last one that
        a kill cut off.
        """
        path = self.path / name
        lines = (
            path.read_text(encoding="utf-8", errors="replace").split("\n")
            if path.exists()
            else [""]
        )
        return [json.loads(line) for line in lines[:-1] if line]

    def record_step(self, metrics: Mapping[str, Any], groups: Iterable[Group]) -> None:
        self.append(
            "rollouts.jsonl", (row for g in groups for row in rollout_rows(metrics["step"], g))
        )
        self.append("metrics.jsonl", [metrics])

    def evaluations(self) -> dict[str, Any]:
        """eval.json: {stage: {split: metrics}}."""
        path = self.path / "eval.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def record_eval(self, stage: str, split: str, metrics: Mapping[str, Any]) -> None:
        table = self.evaluations()
        table.setdefault(stage, {})[split] = metrics
        write_json(self.path / "eval.json", table)

    def record_predictions(self, stage: str, split: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write what an evaluation's figures were made of; `eval score` and `compare` read it."""
        path = self.path / "predictions" / f"{stage}-{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def checkpoint(self, step: int) -> Path:
        return self.path / "checkpoints" / checkpoints.NAME.format(step)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return checkpoints.complete(self.path / "checkpoints")

    def best(self) -> tuple[int | None, float]:
        """(step, reward) of the highest validation reward, the earliest of equals; (None, -inf)
        without validation.
        """
        found = {
            row["step"]: row.get("validation_reward", math.nan)
            for row in self.rows("metrics.jsonl")
        }
        rewards = {step: reward for step, reward in found.items() if math.isfinite(reward)}
        if not rewards:
            return None, -math.inf
        step = max(rewards, key=lambda step: rewards[step])
        return step, rewards[step]

    def truncate(self, step: int) -> None:
        """Forgets what was recorded after `step`, checkpoints included: a resumed run writes it
        again.
        """
        for path in (self.path / name for name in BY_STEP):
            sweep(path)
            if path.exists():
                keep_lines(
                    path, lambda line: line.endswith(b"\n") and json.loads(line)["step"] <= step
                )
        for path in (self.path / "checkpoints").glob("step-*"):
            if path.suffix == PART or checkpoints.step_of(path) > step:
                shutil.rmtree(path)


def changed_settings(path: Path, config: Config) -> list[str]:
    """What a resumed run does otherwise than the run in `path` did: "key: old -> new"."""
    if not (path / "config.yaml").is_file():
        return []
    old, new = (
        flat(yaml.safe_load(text)) for text in ((path / "config.yaml").read_text(), to_yaml(config))
    )
    changed = [
        key for key in sorted({*old, *new}) if old.get(key) != new.get(key) and key not in HARMLESS
    ]
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in changed]


def resumed_config(overrides: Sequence[str], root: Path) -> Path:
    """The configuration that the run in run.dir=... (relative to `root`) was started with."""
    folder = overridden("run.dir", overrides)
    if not folder:
        raise UserError(
            "which run is to be continued? give its directory: train --resume run.dir=..."
        )
    file = root / folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"nothing to resume: there is no {file}")
    return file


def run_id_of(run_dir: Path) -> str:
    """Names a run's parts on a cluster. The same for a run that is resumed: what a kill has left of
    it is found.
    """
    return hashlib.blake2b(str(run_dir).encode(), digest_size=4).hexdigest()


def rollout_rows(step: int, group: Group) -> Iterable[dict[str, Any]]:
    for sample, advantage in zip(group.samples, group.advantages, strict=True):
        rollout = sample.rollout
        yield {
            "step": step,
            "uid": rollout.uid,
            "index": rollout.index,
            "image": group.prompt.image,
            "truth": dataclasses.asdict(group.prompt.truth),
            "text": rollout.text,
            "tokens": len(rollout.completion_ids),
            "finish_reason": rollout.finish_reason,
            "version": rollout.version,
            "parts": {name: dataclasses.asdict(outcome) for name, outcome in sample.parts.items()},
            "total": sample.total,
            "advantage": advantage,
        }
