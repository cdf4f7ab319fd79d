"""A run's directory: everything that a person or a later command wants to know of a run lies here.

    config.yaml        the configuration as it ran
    .id                a random number: no other run has this one's names on a cluster
    metrics.jsonl      one line per optimizer step (names and units: telemetry.METRICS)
    sft_metrics.jsonl  the same for Step II
    rollouts.jsonl     every scored completion: text, levels, parts with reasons, advantage, version
    dropped.jsonl      prompts left out, with the reason
    log.txt            what the run printed, with times (run/log.py)
    eval.json          {stage: {split: metrics}} for the stages base, sft, grpo
    predictions/       STAGE-SPLIT.jsonl, what eval.json was computed from, a row per photograph
    checkpoints/       step-000040/ (learner state: adapter, optimizer, scheduler, RNGs): the newest
                       few and the best
    policy/            the merged checkpoint of the last finished stage, for transformers and vLLM
    done.json          {"steps": N}, once all is done
    report.html        the report

Who writes holds the lock (`exclusive`), checks (run/start.py) and only then writes (`begin`). Lines
are flushed as they are written, and on disk before a checkpoint is. May know nothing of Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from geoagent_rl.config import Config, to_yaml
from geoagent_rl.files import flush, flush_below, remove_at_once, sweep_all, write_json, write_text
from geoagent_rl.run import checkpoints, records
from geoagent_rl.types import Group, UserError

CONFIG, DONE, LOCK, ID = "config.yaml", "done.json", ".lock", ".id"
MARK = "# Written by geoagent-rl, which writes it anew when the run is continued with overrides.\n"
BY_STEP = (
    "metrics.jsonl",
    "rollouts.jsonl",
    "dropped.jsonl",
)  # a resumed run cuts them back to its checkpoint
MAX_WAITING = 64 * 2**20  # characters of lines that wait for room on a full disk


class RunDir:
    """One run directory: its lock, records, evaluations and checkpoints."""

    def __init__(self, path: str | Path) -> None:
        # not resolve(): for links in a circle that raises RuntimeError
        self.path = Path(os.path.realpath(path))
        self.waiting: dict[str, list[str]] = {}  # lines by file that the disk has not taken
        self.problems: list[str] = []

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the run's lock: one process works in a directory at a time.

        The lock goes with the process, however that ends. A directory that was new or empty, and in
        which no run has begun by the end, is as it was before. Raises UserError where another
        process holds the lock or the directory cannot be made."""
        missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK)
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is working in {self.path}; wait for it or stop it"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot make the run directory {self.path}: {error.strerror}; set run.dir"
            ) from None
        empty = {path.name for path in self.path.iterdir()} <= {LOCK}
        try:
            yield
        finally:
            if empty and not (self.path / CONFIG).exists():
                self._leave_nothing(missing)
            lock.release()

    def _leave_nothing(self, made: Sequence[Path]) -> None:
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        with contextlib.suppress(OSError):  # another start may be using a folder above by now
            for folder in made:
                folder.rmdir()

    def begin(self, config: Config) -> RunDir:
        """Write the configuration, under the lock and after all checks; return the run.

        A file that says the same already is left alone."""
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        file, text = self.path / CONFIG, MARK + to_yaml(config)
        if not file.exists() or settings_in(file.read_bytes()) != settings_in(text.encode()):
            write_text(file, text, durable=True)
        return self

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add JSON lines to the file `name`.

        Lines that a full disk does not take wait for the next call; `problems` says so. Raises
        UserError when they have become too many to wait in memory."""
        lines = self.waiting.pop(name, []) + [
            json.dumps(row, ensure_ascii=False) + "\n" for row in rows
        ]
        path = self.path / name
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("a", encoding="utf-8", errors="replace") as file:
                file.writelines(lines)
        except OSError as error:
            if path.exists():
                os.truncate(path, before)  # no half line
            self.waiting[name] = lines
            self.problems.append(
                f"{path}: {error.strerror}; {len(lines)} lines wait for the next step"
            )
            if sum(map(len, lines)) > MAX_WAITING:
                raise UserError(
                    f"{path}: {error.strerror}, for so long that {len(lines)} lines wait in memory;"
                    " make room, then resume"
                ) from None

    def settle(self) -> None:
        """Write the lines that wait for room; a run or an evaluation must not end without them.

        Raises UserError where there still is none."""
        for name in list(self.waiting):
            self.append(name, [])
        if self.waiting:
            raise UserError(
                f"{self.path}: no room for {', '.join(self.waiting)}; make room, then start again"
            )

    def sync(self) -> None:
        """Put the records of all steps on disk: what a checkpoint may not be ahead of. OSError."""
        for name in BY_STEP:
            if (self.path / name).exists():
                flush(self.path / name)
        flush(self.path)

    def take_problems(self) -> list[str]:
        """Return what could not be written since the last call."""
        problems, self.problems = self.problems, []
        return problems

    def rows(self, name: str) -> list[records.Row]:
        """Return the records of the file `name`, none where it does not exist; damaged lines are
        skipped, with a warning."""
        return list(records.read_rows(self.path / name))

    def recorded_steps(self) -> int:
        """Return the last step that is recorded; 0 before the first."""
        step = records.last_row(self.path / "metrics.jsonl").get("step")
        return step if isinstance(step, int) else 0

    def finished_steps(self) -> int:
        """Return how many steps the run had when it came to its end; 0 before that."""
        steps = records.last_row(self.path / DONE).get("steps")
        return steps if isinstance(steps, int) else 0

    def finish(self, steps: int) -> None:
        """Note that the run has come to its end, once its policy is on disk."""
        if (self.path / "policy").is_dir():
            flush_below(self.path / "policy")
        write_text(self.path / DONE, json.dumps({"steps": steps}) + "\n", durable=True)

    def record_step(self, metrics: Mapping[str, Any], groups: Sequence[Group]) -> None:
        """Add the records of one step."""
        self.append(
            "rollouts.jsonl", (row for g in groups for row in rollout_rows(metrics["step"], g))
        )
        dropped = [g for g in groups if not g.samples]
        if dropped:
            self.append("dropped.jsonl", (dropped_row(metrics["step"], g) for g in dropped))
        self.append("metrics.jsonl", [metrics])

    def evaluations(self) -> dict[str, Any]:
        """Return eval.json: {stage: {split: metrics}}."""
        path = self.path / "eval.json"
        return (records.record(path.read_bytes()) or {}) if path.exists() else {}

    def record_eval(self, stage: str, split: str, metrics: Mapping[str, Any]) -> None:
        """Add an evaluation to eval.json."""
        table = self.evaluations()
        table.setdefault(stage, {})[split] = metrics
        write_json(self.path / "eval.json", table)

    def record_predictions(self, stage: str, split: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write what an evaluation's figures were made of; `eval score` and `compare` read it."""
        path = self.path / "predictions" / f"{stage}-{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def checkpoint(self, step: int) -> Path:
        """Return the directory of a step's checkpoint."""
        return self.path / "checkpoints" / checkpoints.NAME.format(step)

    def checkpoints(self) -> list[Path]:
        """Return complete checkpoints, oldest first."""
        return checkpoints.complete(self.path / "checkpoints")

    def best(self) -> tuple[int | None, float]:
        """Return (step, reward) of the highest validation reward, the earliest of equals; (None,
        -inf) without validation."""
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
        """Forget what was recorded after `step`, checkpoints included, and what killed writers left
        half: a resumed run writes it again.
        """
        for folder in (self.path, self.path / "checkpoints", self.path / "predictions"):
            sweep_all(folder)
        for name in BY_STEP:
            # what waits for room is later: no checkpoint is taken meanwhile
            self.waiting.pop(name, None)
            records.cut_after(self.path / name, step)
        (self.path / DONE).unlink(missing_ok=True)
        for path in checkpoints.complete(self.path / "checkpoints"):
            if checkpoints.step_of(path) > step:
                remove_at_once(path)


def settings_in(text: bytes) -> dict[str, Any]:
    """Return what a run's config.yaml says, {} where it cannot be read: others than the run go on
    without."""
    try:
        found = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def run_id_of(run_dir: Path) -> str:
    """Return what names a run's parts on a cluster: 64 bits of its directory's path and number.

    The same for a run that is resumed, so that what a kill has left of it is found; another for a
    copy of the directory, and for an equal path on another machine's disk."""
    file = run_dir / ID
    number = file.read_text() if file.is_file() else ""
    return hashlib.blake2b(f"{number} {run_dir}".encode(), digest_size=8).hexdigest()


def given_id(run_dir: Path) -> str:
    """Return `run_id_of` a directory, which gets its number here where it has none."""
    if not (run_dir / ID).exists():
        write_text(run_dir / ID, secrets.token_hex(16), durable=True)
    return run_id_of(run_dir)


def dropped_row(step: int, group: Group) -> dict[str, Any]:
    """Return the record of a group without samples."""
    prompt = group.prompt
    return {"step": step, "uid": prompt.uid, "image": prompt.image, "reason": group.reason}


def rollout_rows(step: int, group: Group) -> Iterable[dict[str, Any]]:
    """Yield the rows of a group for rollouts.jsonl."""
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
