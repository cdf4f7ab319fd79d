"""Whether a run's GPUs fit on given nodes, and the values to change where they do not. Pure.

A bundle (an engine with all its GPUs, a learner's rank, a judge's replica) lies on one node; so do
engine and learner where they share a GPU (placement.colocate)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from geoagent_rl.config import Config
from geoagent_rl.plan.resources import ENGINE, LEARNER, Part, parts
from geoagent_rl.types import UserError

USUAL_NODE = 8  # GPUs


def node_sizes(text: str) -> list[int]:
    """Return the GPUs of each node of "1x8" or "2x8,1x4". UserError for other texts."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*x\s*(\d+)\s*", part)
        if match is None or not int(match[1]) or not int(match[2]):
            raise UserError(f"--nodes {text}: give nodes x GPUs, as in 1x8 or 2x8,1x4")
        found += [int(match[2])] * int(match[1])
    return found


def gpu_parts(config: Config) -> list[Part]:
    """Return the parts that need GPUs."""
    return [part for part in parts(config) if part.gpus > 0]


def bundles(asked: Sequence[Part], counts: Sequence[int], together: bool) -> list[float]:
    """Return the GPUs of each bundle. together: engine and learner share one."""
    shared = [p.gpus for p in asked if together and p.name in (ENGINE, LEARNER)]
    alone = [
        part.gpus
        for part, count in zip(asked, counts, strict=True)
        for _ in range(count)
        if not (together and part.name in (ENGINE, LEARNER))
    ]
    return alone + ([sum(shared)] if shared else [])


def packs(asked: Sequence[float], nodes: Sequence[int]) -> bool:
    """Return whether the bundles fit, each on one node: the largest first, where it fits first.

    Shares of a GPU lie on one GPU: a node is a row of GPUs of 1."""
    free = [[1.0] * size for size in nodes]
    for amount in sorted(asked, reverse=True):
        for node in free:
            if takes(node, amount):
                break
        else:
            return False
    return True


def takes(node: list[float], amount: float) -> bool:
    """Take `amount` of a node's GPUs where they are free."""
    if amount < 1:
        fitting = [i for i, left in enumerate(node) if left >= amount - 1e-6]
        if fitting:
            node[fitting[0]] -= amount
        return bool(fitting)
    whole = [i for i, left in enumerate(node) if left == 1.0]
    if len(whole) < amount:
        return False
    for i in whole[: round(amount)]:
        node[i] = 0.0
    return True


def fewest_nodes(config: Config, size: int = USUAL_NODE) -> int:
    """Return how many nodes of `size` GPUs the run needs; 0 where a bundle is larger than one."""
    asked = gpu_parts(config)
    needed = bundles(asked, [p.count for p in asked], config.placement.colocate)
    if any(amount > size for amount in needed):
        return 0
    return next(n for n in itertools.count(1) if packs(needed, [size] * n))


def fitting_values(config: Config, nodes: Sequence[int]) -> list[str] | None:
    """Return overrides with which the run fits on the nodes: none where it fits, None where only
    smaller bundles would.

    Of all smaller counts those that use the most GPUs, and of these the ones that keep most of the
    learner's ranks: the number of engines changes no result, only time."""
    asked = gpu_parts(config)
    counts = [part.count for part in asked]
    together = config.placement.colocate
    best: list[int] | None = None
    for tried in itertools.product(*(range(1, count + 1) for count in counts)):
        if packs(bundles(asked, tried, together), nodes):
            candidate = list(tried)
            if best is None or worth(asked, candidate) > worth(asked, best):
                best = candidate
    if best is None:
        return None
    return [
        f"{part.count_key}={count}"
        for part, count in zip(asked, best, strict=True)
        if count != part.count
    ]


def worth(asked: Sequence[Part], counts: Sequence[int]) -> tuple[float, int]:
    """Return what a layout is chosen by: GPUs in use, then learner ranks."""
    total = sum(part.gpus * count for part, count in zip(asked, counts, strict=True))
    ranks = next((c for p, c in zip(asked, counts, strict=True) if p.name == LEARNER), 0)
    return total, ranks


def describe(config: Config, nodes: str) -> dict[str, object]:
    """Return the GPUs in all, of what, and whether they fit: on `nodes`, or on how many of 8."""
    asked = gpu_parts(config)
    total = sum(part.count * part.gpus for part in asked)
    found: dict[str, object] = {
        "total": total,
        "of": ", ".join(f"{part.count} {part.name} x {part.gpus:g}" for part in asked),
        "nodes_of_8": fewest_nodes(config),
    }
    if nodes:
        values = fitting_values(config, node_sizes(nodes))
        found |= {"nodes": nodes, "fits": values == [], "override": values}
    return found


def text(found: dict[str, object]) -> str:
    """Return the line that `plan` prints."""
    line = f"GPUs: {found['total']:g} in all ({found['of']}); "
    if "nodes" not in found:
        count = found["nodes_of_8"]
        return line + (
            f"at least {count} node{'s' if count != 1 else ''} of {USUAL_NODE}"
            if count
            else f"a bundle is larger than a node of {USUAL_NODE}"
        )
    if found["fits"]:
        return f"{line}fits on {found['nodes']}"
    values = found["override"]
    levers = "fewer GPUs for each part would: lower tensor_parallel and gpus_per_*"
    if isinstance(values, list):
        levers = f"with {' '.join(values)} it does"
    return f"{line}does not fit on {found['nodes']}: {levers}"
