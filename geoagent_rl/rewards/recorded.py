"""A run's recorded verdicts (rollouts.jsonl), read with the configuration it ran with.

Scores, totals and advantages are the recorded ones to the last digit: nothing is scored again. Rows
are read one at a time, so memory does not grow with the run.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geoagent_rl.config import Config, load
from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.config.schedule import at_version
from geoagent_rl.rewards.causes import best_total, losses
from geoagent_rl.rewards.total import part_weights
from geoagent_rl.run.directory import CONFIG
from geoagent_rl.run.records import Row, read_rows
from geoagent_rl.types import UserError

ROLLOUTS = "rollouts.jsonl"


@dataclass(frozen=True)
class RecordedRun:
    """A run directory and its configuration."""

    path: Path
    config: Config

    def rows(self, uid: str = "", step: int | None = None) -> Iterator[Row]:
        """Yield the rows of rollouts.jsonl, of one photograph or step where they are named.

        Raises UserError where there is none.
        """
        empty = True
        for row in read_rows(self.path / ROLLOUTS):
            if step is not None and row["step"] > step:
                break
            if (not uid or row["uid"] == uid) and step in (None, row["step"]):
                empty = False
                yield row
        if empty:
            wanted = (
                f"{' of ' + uid if uid else ''}{f' in step {step}' if step is not None else ''}"
            )
            raise UserError(f"{self.path} has recorded no answer{wanted}; see --uid and --step")

    def verdicts(self, uid: str = "", step: int | None = None, lost: str = "") -> Iterator[Row]:
        """Yield rows() with `weights`, `max_total` and `lost` [{part, cause, points}].

        lost: only answers that lost points by a "part: cause" that has this text. Raises UserError
        where there is none.
        """
        empty = True
        for row in self._verdicts(uid, step):
            causes = [f"{loss['part']}: {loss['cause']}" for loss in row["lost"]]
            if not lost or any(lost in cause for cause in causes):
                empty = False
                yield row
        if empty:
            raise UserError(
                f"no answer of {self.path} lost points by {lost!r}; see --summary --json"
            )

    def _verdicts(self, uid: str, step: int | None) -> Iterator[Row]:
        weights_at = functools.cache(functools.partial(weights_of, self.config.reward))
        for row in self.rows(uid, step):
            weights = weights_at(row["version"])
            found = [asdict(loss) for loss in losses(row, weights)]
            yield row | {"weights": weights, "max_total": best_total(weights), "lost": found}


def open_run(path: Path, overrides: Iterable[str] = ()) -> RecordedRun:
    """Return a run directory's records, with its configuration as recorded, then overridden.

    Raises UserError where it holds none, or where this version does not know the configuration.
    """
    for name in (CONFIG, ROLLOUTS):
        if not (path / name).is_file():
            raise UserError(f"{path} holds no {name}; give the directory of a run that has trained")
    return RecordedRun(path, load(path / CONFIG, list(overrides)))


def weights_of(config: RewardConfig, version: int) -> dict[str, float]:
    """Return the weights of the parts in play for answers of a policy version."""
    return part_weights(at_version(config, version))


def groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the answers to one prompt together; a file holds them one after another."""
    group: list[Row] = []
    for row in rows:
        if group and not _follows(group[-1], row):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _follows(before: Row, row: Row) -> bool:
    """Whether two neighbours are answers to one prompt; one may come twice in a step."""
    same = (before["step"], before["uid"]) == (row["step"], row["uid"])
    return same and bool(before["index"] < row["index"])


@dataclass
class Account:
    """What became of the points of many verdicts."""

    answers: int = 0
    total: float = 0.0
    best: float = 0.0
    scored: int = 0
    steps: list[int] = field(default_factory=list)  # first and last
    points: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Count one verdict."""
        self.answers += 1
        self.steps = [*self.steps[:1], row["step"]]
        for loss in row["lost"]:
            self.points[loss["part"], loss["cause"]].append(loss["points"])
        for name, part in row["parts"].items():
            if part["kind"] == "infra":
                self.failed[name, part["reason"]] += 1
        if row["total"] is not None:
            self.scored += 1
            self.total += row["total"]
            self.best += row["max_total"]

    def summary(self) -> dict[str, Any]:
        """Return {answers, steps, unscorable, mean_total, mean_max, lost, failed}.

        lost: [{part, cause, points, share, answers}], the largest first; points are means over
        scored answers, share is of all that was lost. failed: parts that no score is known of.
        """
        scored = max(self.scored, 1)
        lost = self.best - self.total
        rows = [
            {
                "part": part,
                "cause": cause,
                "points": sum(points) / scored,
                "share": sum(points) / lost if lost else 0.0,
                "answers": len(points),
            }
            for (part, cause), points in self.points.items()
        ]
        failed = [
            {"part": part, "reason": reason, "answers": count}
            for (part, reason), count in self.failed.most_common()
        ]
        return {
            "answers": self.answers,
            "steps": [self.steps[0], self.steps[-1]] if self.steps else [],
            "unscorable": self.answers - self.scored,
            "mean_total": self.total / scored if self.scored else None,
            "mean_max": self.best / scored if self.scored else None,
            "lost": sorted(rows, key=lambda row: -row["points"]),
            "failed": failed,
        }


def look(
    verdicts: Iterable[Row], worst: int, most_groups: int
) -> tuple[dict[str, Any], list[Row], list[list[Row]]]:
    """Return (Account.summary, the `worst` scored answers of lowest total, the first groups)."""
    account, low = Account(), list[Row]()
    kept: list[list[Row]] = []
    for group in groups(verdicts):
        for row in group:
            account.add(row)
        if len(kept) < most_groups:
            kept.append(group)
        low += [row for row in group if row["total"] is not None]
        low = sorted(low, key=lambda row: row["total"])[:worst]
    return account.summary(), low, kept


def steps(found: Iterable[list[Row]]) -> Iterator[list[list[Row]]]:
    """Yield the groups of each step together."""
    for _, of_step in itertools.groupby(found, key=lambda group: group[0]["step"]):
        yield list(of_step)
