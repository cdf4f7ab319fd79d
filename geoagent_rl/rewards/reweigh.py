"""Recorded rollouts under other weights: totals, advantages and the order within groups, without
training.

Every score is the recorded one; totals are rewards.total's, advantages grpo.advantages'. With the
run's own weights both come out as recorded, to the last digit."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from geoagent_rl.config import Config
from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.config.schedule import at_version
from geoagent_rl.grpo.advantages import (
    TOLERANCE,
    differ,
    finite,
    group_advantages,
    over_batch,
    part_advantages,
)
from geoagent_rl.grpo.overlong import penalised
from geoagent_rl.rewards.recorded import RecordedRun, groups, open_run, steps
from geoagent_rl.rewards.total import part_weights, total
from geoagent_rl.run.records import Row
from geoagent_rl.types import Outcome, UserError

LARGEST = 10  # groups that are listed
Totals = list[float | None]
Judged = tuple[Totals, list[float]]  # a group's totals and advantages


def reweigh(path: Path, weights: Mapping[str, float], step: int | None = None) -> dict[str, Any]:
    """Return what a run's groups would have been under other weights.

    weights: by part; the others stay. step: that one alone. Two values are before and after:
    {run, weights, answers, groups, scored, mean_total, zero_variance, flipped, pairs, swapped,
    sign_changes, mean_advantage_change, largest}. `flipped` counts groups whose best answer is
    another, `swapped` pairs of a group's answers in the other order. Raises UserError for a part
    whose scores the run has not recorded.
    """
    run = open_run(path)
    before, after = run.config, _reweighed(path, run.config.reward, weights)
    _check_recorded(run, after.reward, step)
    changes = []
    for of_step in steps(groups(run.rows(step=step))):
        old, new = judged(before, of_step), judged(after, of_step)
        changes += [_change(*found) for found in zip(of_step, old, new, strict=True)]
    first, last = (part_weights(config.reward) for config in (before, after))
    both = {name: [first.get(name, 0.0), last.get(name, 0.0)] for name in {**first, **last}}
    return {"run": str(path), "weights": both, **_summary(changes)}


def judged(config: Config, found: Sequence[list[Row]]) -> list[Judged]:
    """Return the totals and advantages (learner.advantage) of all groups of one step."""
    kind = config.learner.advantage
    totals = [[_total(config.reward, row) for row in group] for group in found]
    rewards = [_penalised(config, g, t) for g, t in zip(found, totals, strict=True)]
    if kind == "gdpo":
        first = [_by_part(config.reward, g, t) for g, t in zip(found, totals, strict=True)]
    else:
        first = [group_advantages(group, scaled=kind == "group") for group in rewards]
    return list(zip(totals, over_batch(kind, first, rewards), strict=True))


def _total(config: RewardConfig, row: Row) -> float | None:
    outcomes = {name: Outcome(part["kind"], part["score"]) for name, part in row["parts"].items()}
    return total(outcomes, at_version(config, row["version"]))


def _penalised(config: Config, group: list[Row], totals: Totals) -> Totals:
    """Return what advantages are made of (learner.overlong)."""
    c = config.learner
    if c.overlong != "penalty":
        return totals
    lengths = [row["tokens"] for row in group]
    limit = config.rollout.max_tokens
    return penalised(totals, lengths, limit, c.overlong_buffer, c.overlong_penalty)


def _by_part(config: RewardConfig, group: list[Row], totals: Totals) -> list[float]:
    weights = part_weights(at_version(config, group[0]["version"]))
    scores = [
        None if total is None else {name: row["parts"][name]["score"] for name in weights}
        for row, total in zip(group, totals, strict=True)
    ]
    return part_advantages(scores, weights)


def _reweighed(path: Path, reward: RewardConfig, weights: Mapping[str, float]) -> Config:
    """Return the run's configuration with other weights, checked like any override. A schedule of a
    weight that is given here ends.
    """
    keys = {
        f"custom.{name}.weight" if name in reward.custom else f"weights.{name}": weight
        for name, weight in weights.items()
    }
    config = open_run(path, [f"reward.{key}={weight}" for key, weight in keys.items()]).config
    kept = tuple(schedule for schedule in config.reward.schedules if schedule.of not in keys)
    return dataclasses.replace(config, reward=dataclasses.replace(config.reward, schedules=kept))


def _check_recorded(run: RecordedRun, reward: RewardConfig, step: int | None) -> None:
    recorded, weights = next(run.rows(step=step))["parts"], part_weights(reward)
    missing = [name for name in weights if name not in recorded]
    if missing:
        raise UserError(
            f"{run.path} has no recorded score of {', '.join(missing)}, which had weight 0; "
            f"recorded: {', '.join(recorded)}"
        )
    if not any(weight > 0 for weight in weights.values()):
        raise UserError("no reward part is left with a weight above 0; give other weights")


def _change(group: list[Row], before: Judged, after: Judged) -> dict[str, Any]:
    """Return what becomes of one group; [a, b] are before and after."""
    (old, was), (new, now) = before, after
    pairs = list(_told_apart(old, new))
    best = [_best(old), _best(new)]
    moves = [abs(a - b) for a, b in zip(was, now, strict=True)]
    return {
        "step": group[0]["step"],
        "uid": group[0]["uid"],
        "answers": len(group),
        "best": [[group[i]["index"] for i in side] for side in best],
        "flipped": all(best) and not set(best[0]) & set(best[1]),
        "pairs": len(pairs),
        "swapped": sum(a * b < 0 for a, b in pairs),
        "sign_changes": sum(a * b < 0 for a, b in zip(was, now, strict=True)),
        "advantage_change": math.fsum(moves),
        "largest_advantage_change": max(moves),
        "zero_variance": [not differ(finite(side)) for side in (old, new)],
        "sums": [math.fsum(finite(side)) for side in (old, new)],
        "scored": [len(finite(side)) for side in (old, new)],
    }


def _told_apart(old: Totals, new: Totals) -> Iterator[tuple[float, float]]:
    """Yield (difference before, after) of the pairs that were told apart before."""
    both = [(a, b) for a, b in zip(old, new, strict=True) if a is not None and b is not None]
    for (a, c), (b, d) in itertools.combinations(both, 2):
        if abs(a - b) > TOLERANCE:
            yield a - b, c - d if abs(c - d) > TOLERANCE else 0.0


def _best(totals: Totals) -> list[int]:
    most = max(finite(totals), default=math.inf)
    return [i for i, found in enumerate(totals) if found is not None and found >= most - TOLERANCE]


def _summary(changes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def count(name: str) -> int:
        return sum(change[name] for change in changes)

    def both(name: str) -> list[Any]:
        return [sum(change[name][side] for change in changes) for side in (0, 1)]

    def rank(change: Mapping[str, Any]) -> tuple[bool, int, float]:
        return not change["flipped"], -change["swapped"], -change["largest_advantage_change"]

    inner = ("answers", "sign_changes", "advantage_change", "zero_variance", "sums", "scored")
    largest = [
        {name: value for name, value in change.items() if name not in inner}
        for change in sorted(changes, key=rank)[:LARGEST]
        if change["largest_advantage_change"] > TOLERANCE
    ]
    scored = both("scored")
    means = [total / n if n else None for total, n in zip(both("sums"), scored, strict=True)]
    return {
        "answers": count("answers"),
        "groups": len(changes),
        "scored": scored,
        "mean_total": means,
        "zero_variance": both("zero_variance"),
        "flipped": count("flipped"),
        "pairs": count("pairs"),
        "swapped": count("swapped"),
        "sign_changes": count("sign_changes"),
        "mean_advantage_change": count("advantage_change") / count("answers"),
        "largest": largest,
    }
