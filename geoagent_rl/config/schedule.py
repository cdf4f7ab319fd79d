"""Numbers of the reward that change with the optimizer step (reward.schedules), as GRE Suite's and
geospot's length scales do.

A value depends on the step alone, so a resumed run scores as one that was never stopped. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from geoagent_rl.config.reward import RewardConfig, ScheduleConfig
from geoagent_rl.types import UserError

T = TypeVar("T")


def value(schedule: ScheduleConfig, step: int) -> float:
    """Return the number at `step`, counted from 0; from the last step of the schedule on its end.

    constant is `start`; linear and geometric go from `start` to `end` within `steps`; piecewise
    holds the value of the last of its (step, value) points that has been reached.
    """
    if schedule.kind == "constant":
        return schedule.start
    if schedule.kind == "piecewise":
        reached = [number for at, number in schedule.points if at <= step]
        return reached[-1] if reached else schedule.points[0][1]
    share = min(1.0, step / max(1, schedule.steps - 1)) if schedule.steps > 1 else 1.0
    if schedule.kind == "linear":
        return schedule.start + (schedule.end - schedule.start) * share
    return schedule.start * math.pow(schedule.end / schedule.start, share)


def problem(schedule: ScheduleConfig) -> str:
    """Return what is wrong with a schedule, "" if nothing."""
    if schedule.kind == "piecewise":
        steps = [at for at, _ in schedule.points]
        if not steps or any(b <= a for a, b in pairwise(steps)):
            return f"the schedule of {schedule.of}: piecewise needs points [step, value] by rising step"
    elif schedule.kind == "geometric" and not (schedule.start > 0 and schedule.end > 0):
        return f"the schedule of {schedule.of}: geometric needs start and end above 0"
    return ""


def values(schedules: Sequence[ScheduleConfig], step: int) -> dict[str, float]:
    """Return every scheduled number at `step`, by its dotted key below reward."""
    return {schedule.of: value(schedule, step) for schedule in schedules}


def measured(schedules: Sequence[ScheduleConfig], version: int) -> dict[str, float]:
    """Return the metrics that show the scheduled numbers of a policy version."""
    found = values(schedules, version)
    return {f"scheduled_{key.replace('.', '_')}": number for key, number in found.items()}


def at_version(config: RewardConfig, version: int) -> RewardConfig:
    """Return the reward as it is for answers of a policy version, without schedules."""
    now = with_values(config, values(config.schedules, version))
    return dataclasses.replace(now, schedules=())


def with_values(config: T, found: Mapping[str, float]) -> T:
    """Return `config` with the numbers at their dotted keys.

    Raises UserError for a key that names no number of the section.
    """
    for key, number in found.items():
        config = _replaced(config, key.split("."), number, key)
    return config


def _replaced(config: Any, path: list[str], number: float, key: str) -> Any:
    name, *rest = path
    inner = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
    if rest and (dataclasses.is_dataclass(inner) or isinstance(inner, Mapping)):
        changed = _replaced(inner, rest, number, key)
    elif not rest and isinstance(inner, (int, float)) and not isinstance(inner, bool):
        changed = number
    else:
        raise UserError(f"reward.schedules: reward.{key} is no number that can change")
    if isinstance(config, Mapping):
        return {**config, name: changed}
    return dataclasses.replace(config, **{name: changed})
