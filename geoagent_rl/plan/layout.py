"""Whether a run's GPUs fit on given nodes, and the values to change where they do not. Pure.

A bundle (an engine with all its GPUs, a learner's rank, a judge's replica) lies on one node; so do
an engine and the ranks on its GPUs where they share them (placement.colocate)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from geoagent_rl.config import Config
from geoagent_rl.plan.resources import ENGINE, LEARNER, Role, roles
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


def gpu_roles(config: Config) -> list[Role]:
    """Return the roles that need GPUs."""
    return [role for role in roles(config) if role.gpus > 0]


Bundle = tuple[float, int]  # so much of each of so many GPUs of one node


def bundles(asked: Sequence[Role], counts: Sequence[int], config: Config) -> list[Bundle]:
    """Return what each bundle needs. Engines and ranks that share GPUs are one."""
    together, found = config.placement.colocate, []
    for role, count in zip(asked, counts, strict=True):
        if together and role.name == ENGINE:
            share = config.rollout.gpus_per_engine + config.learner.gpus_per_rank
            found += [(share, config.rollout.tensor_parallel)] * count
        elif not (together and role.name == LEARNER):
            one = (role.gpus, 1) if role.gpus < 1 else (1.0, round(role.gpus))
            found += [one] * count
    return found


def packs(asked: Sequence[Bundle], nodes: Sequence[int]) -> bool:
    """Return whether the bundles fit, each on one node: the largest first, where it fits first.

    Shares of a GPU lie on one GPU: a node is a row of GPUs of 1."""
    free = [[1.0] * size for size in nodes]
    for share, count in sorted(asked, key=lambda b: (b[0] * b[1], b[0]), reverse=True):
        for node in free:
            fitting = [i for i, left in enumerate(node) if left >= share - 1e-6]
            if len(fitting) >= count:
                for i in fitting[:count]:
                    node[i] -= share
                break
        else:
            return False
    return True


def fewest_nodes(config: Config, size: int = USUAL_NODE) -> int:
    """Return how many nodes of `size` GPUs the run needs; 0 where a bundle is larger than one."""
    asked = gpu_roles(config)
    needed = bundles(asked, [p.count for p in asked], config)
    if any(count > size for _, count in needed):
        return 0
    return next(n for n in itertools.count(1) if packs(needed, [size] * n))


def fitting_values(config: Config, nodes: Sequence[int]) -> list[str] | None:
    """Return overrides with which the run fits on the nodes: none where it fits, None where only
    smaller bundles would.

    Of all smaller counts those that use the most GPUs, and of these the ones that keep most of the
    learner's ranks: the number of engines changes no result, only time."""
    asked = gpu_roles(config)
    counts = [role.count for role in asked]
    best: list[int] | None = None
    for tried in itertools.product(*(range(1, count + 1) for count in counts)):
        if paired(config, asked, tried) and packs(bundles(asked, tried, config), nodes):
            candidate = list(tried)
            if best is None or worth(asked, candidate) > worth(asked, best):
                best = candidate
    if best is None:
        return None
    return [
        f"{role.count_key}={count}"
        for role, count in zip(asked, best, strict=True)
        if count != role.count
    ]


def paired(config: Config, asked: Sequence[Role], counts: Sequence[int]) -> bool:
    """Return whether ranks are as many as the engines' GPUs, where they share them."""
    count = {role.name: n for role, n in zip(asked, counts, strict=True)}
    ranks = count.get(ENGINE, 0) * config.rollout.tensor_parallel
    return not config.placement.colocate or count.get(LEARNER) == ranks


def worth(asked: Sequence[Role], counts: Sequence[int]) -> tuple[float, int]:
    """Return what a layout is chosen by: GPUs in use, then learner ranks."""
    total = sum(role.gpus * count for role, count in zip(asked, counts, strict=True))
    ranks = next((c for p, c in zip(asked, counts, strict=True) if p.name == LEARNER), 0)
    return total, ranks


def describe(config: Config, nodes: str) -> dict[str, object]:
    """Return the GPUs in all, of what, and whether they fit: on `nodes`, or on how many of 8."""
    asked = gpu_roles(config)
    total = sum(role.count * role.gpus for role in asked)
    found: dict[str, object] = {
        "total": total,
        "of": ", ".join(f"{role.count} {role.name} x {role.gpus:g}" for role in asked),
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
