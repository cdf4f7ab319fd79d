"""What one step's event spans say: who was busy, what the learner waited for, the bound T*.

All times are seconds of the driver's monotonic clock."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from geoagent_rl.types import Group

Interval = tuple[float, float]
# Of a group's completions, by index, as far as they have come: a moment that is missing is to come.
Spans = dict[int, dict[str, float]]


@dataclass
class StepClock:
    """Event spans of one step. Intervals are (start, end). shared: engines and learner have the
    same GPUs, and so cannot work at the same time. ahead: groups of later steps, under way."""

    start: float
    end: float = 0.0
    shared: bool = False
    learning: list[Interval] = field(default_factory=list)
    swapping: list[Interval] = field(default_factory=list)
    ahead: Sequence[Spans] = ()


def clipped(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """Return what of each interval lies inside `window`, sorted."""
    inside = ((max(a, window[0]), min(b, window[1])) for a, b in intervals)
    return sorted((a, b) for a, b in inside if a < b)


def union(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """Return disjoint, sorted intervals covering the same time inside `window`."""
    merged: list[Interval] = []
    for a, b in clipped(intervals, window):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], b))
        else:
            merged.append((a, b))
    return merged


def length(intervals: Sequence[Interval]) -> float:
    """Return the total length of disjoint intervals."""
    return math.fsum(b - a for a, b in intervals)


def overlap(left: Sequence[Interval], right: Sequence[Interval]) -> float:
    """Return the time that two disjoint sorted lists have in common."""
    return math.fsum(max(0.0, min(b, d) - max(a, c)) for a, b in left for c, d in right)


def most_at_once(intervals: Iterable[Interval]) -> int:
    """Return how many of the intervals have a moment in common, at most. One that ends as another
    begins is not counted."""
    changes = sorted((t, change) for a, b in intervals for t, change in ((a, 1), (b, -1)))
    return max(itertools.accumulate((change for _, change in changes), initial=0))


def gaps(intervals: Sequence[Interval], window: Interval) -> list[Interval]:
    """Return the time of `window` that disjoint sorted `intervals` leave free."""
    edges = [window[0], *[t for interval in intervals for t in interval], window[1]]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def time_metrics(clock: StepClock, groups: Sequence[Group]) -> dict[str, float]:
    """Return busy times, queues, the learner's idle time by cause, T* and efficiency of one step.

    What is done meanwhile for later steps counts too, and not again in those: so the busy times of
    all steps add up to a run's, and none exceeds its step."""
    window = (clock.start, clock.end)
    spans: list[Mapping[str, float]] = [s.rollout.spans for g in groups for s in g.samples]
    spans += [s for group in clock.ahead for s in group.values()]
    generations = clipped(((s["submitted"], s.get("generated", math.inf)) for s in spans), window)
    generated = (s for s in spans if "generated" in s)
    scorings = clipped(((s["generated"], s.get("scored", math.inf)) for s in generated), window)
    generating, scoring = union(generations, window), union(scorings, window)
    working = union([*clock.learning, *clock.swapping], window)
    learning = length(union(clock.learning, window))
    idle = gaps(working, window)
    exposed = overlap(idle, union(waits_for_rewards(groups), window))
    wall = clock.end - clock.start
    gpus = length(generating) + learning if clock.shared else max(length(generating), learning)
    bound = max(gpus, length(scoring))
    return {
        "step_seconds": wall,
        "rollout_busy_seconds": length(generating),
        "reward_busy_seconds": length(scoring),
        "learn_busy_seconds": learning,
        "swap_seconds": length(union(clock.swapping, window)),
        "reward_exposed_seconds": exposed,
        "rollout_wait_seconds": length(idle) - exposed,
        "bound_seconds": bound,
        "efficiency": bound / wall if wall > 0 else 1.0,
        "rollout_queue_mean": length(generations) / max(wall, 1e-9),
        "scoring_queue_mean": length(scorings) / max(wall, 1e-9),
        "scoring_queue_max": most_at_once(scorings),
    }


def waits_for_rewards(groups: Sequence[Group]) -> list[Interval]:
    """Return when nothing but rewards kept the group whose turn it was from the learner, which
    takes them in this order.

    A later group that is generated and unscored keeps nobody waiting while an earlier one is still
    being generated."""
    waits, free = [], -math.inf
    for spans in ([s.rollout.spans for s in g.samples] for g in groups if g.samples):
        generated, scored = (max(s[name] for s in spans) for name in ("generated", "scored"))
        waits.append((max(generated, free), scored))
        free = max(free, scored)
    return waits
