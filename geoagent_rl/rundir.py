"""A run's directory: everything that a person or a later command wants to know of a run lies here.

    config.yaml        the configuration as it ran
    metrics.jsonl      one line per optimizer step (names and units: telemetry.METRICS)
    sft_metrics.jsonl  the same for Step II
    rollouts.jsonl     every scored completion: text, levels, score parts with reasons, advantage, version
    eval.json          {stage: {split: metrics}} for the stages base, sft, grpo
    checkpoints/       step-000040/ (learner state: adapter, optimizer, scheduler, RNGs), the newest few
    policy/            the merged checkpoint of the last finished stage, loadable by transformers and vLLM
    report.html        the report

Lines are flushed as they are written. May know nothing of Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from geoagent_rl.config import Config, to_yaml
from geoagent_rl.types import Group, UserError

CHECKPOINT = "step-{:06d}"


class RunDir:
    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()

    @classmethod
    def create(cls, config: Config, resume: bool = False) -> RunDir:
        """A new run directory, or, with `resume`, an existing one. Raises UserError instead of mixing two runs."""
        run = cls(config.run.dir or f"runs/{time.strftime('%Y%m%d-%H%M%S')}")
        if (run.path / "metrics.jsonl").exists() and not resume:
            raise UserError(f"{run.path} already holds a run; give another run.dir, or --resume to continue it")
        if resume and not run.path.is_dir():
            raise UserError(f"nothing to resume: there is no {run.path}")
        try:
            (run.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the run directory {run.path}: {error.strerror}; set run.dir") from None
        (run.path / "config.yaml").write_text(to_yaml(config))
        return run

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds JSON lines to the file `name`."""
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of the file `name`; none where it does not exist."""
        path = self.path / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def record_step(self, metrics: Mapping[str, Any], groups: Iterable[Group]) -> None:
        self.append("rollouts.jsonl", (row for g in groups for row in rollout_rows(metrics["step"], g)))
        self.append("metrics.jsonl", [metrics])

    def record_eval(self, stage: str, split: str, metrics: Mapping[str, Any]) -> None:
        path = self.path / "eval.json"
        table = json.loads(path.read_text()) if path.exists() else {}
        table.setdefault(stage, {})[split] = metrics
        replace_text(path, json.dumps(table, indent=1))

    def checkpoint(self, step: int) -> Path:
        return self.path / "checkpoints" / CHECKPOINT.format(step)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first (they are written aside and renamed, so a torn one has another name)."""
        return sorted(p for p in (self.path / "checkpoints").glob("step-*") if p.suffix == "" and p.is_dir())

    def keep_last(self, n: int) -> None:
        for old in self.checkpoints()[:-n]:
            shutil.rmtree(old)

    def truncate(self, step: int) -> None:
        """Forgets what was recorded after `step`: a resumed run writes it again."""
        for name in ("metrics.jsonl", "rollouts.jsonl"):
            if (self.path / name).exists():
                kept = [row for row in self.rows(name) if row["step"] <= step]
                replace_text(self.path / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def run_id_of(run_dir: Path) -> str:
    """Names a run's parts on a cluster. The same for a run that is resumed: what a kill has left of it is found."""
    return hashlib.blake2b(str(run_dir).encode(), digest_size=4).hexdigest()


def replace_text(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old text or the new, never half."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


@contextlib.contextmanager
def directory_at_once(path: Path, write: bool) -> Iterator[str]:
    """A directory to fill, which takes the name `path` when complete. `write` is False on ranks that write nothing."""
    part = path.with_name(path.name + ".part")
    if write:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    yield str(part)
    if write:
        shutil.rmtree(path, ignore_errors=True)
        os.replace(part, path)


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
