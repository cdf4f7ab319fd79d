"""What a run asks of a cluster, role by role, and whether nodes can hold it. Pure: knows nothing of
Ray.

`plan` prints it, `placement` reserves it. Every role names the configuration values that say how
much it asks for, so that an error can say which one to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from geoagent_rl.config import Config
from geoagent_rl.plan.nodes import split_label
from geoagent_rl.types import UserError

LEARNER, ENGINE, JUDGE, WORKER = "learner rank", "rollout engine", "judge", "reward worker"
Node = Mapping[str, float]  # resource name -> how much the node has


@dataclass(frozen=True, slots=True)
class Role:
    """`count` bundles of the same size, each of which must lie on one node."""

    name: str
    count: int
    gpus: float
    cpus: float
    count_key: str
    gpus_key: str
    cpus_key: str
    nodes: str = ""  # as in reward.geocoder.nodes

    def text(self) -> str:
        """Return what it asks for, in words."""
        gpus = f"{self.gpus:g} GPU, " if self.gpus else ""
        where = f" on nodes with {self.nodes}" if self.nodes else ""
        return f"{self.count} x {self.name} ({gpus}{self.cpus:g} CPU){where}"


def roles(config: Config, only_learner: bool = False) -> list[Role]:
    """Return what a run consists of: the learner's ranks and, unless only_learner (SFT), engines
    and reward services.
    """
    r, c, j, g = config.rollout, config.learner, config.judge, config.reward.geocoder
    engine = r.gpus_per_engine * (r.tensor_parallel if config.placement.colocate else 1)
    found = [
        Role(LEARNER, c.ranks, c.gpus_per_rank, c.cpus_per_rank, *keys("learner", "ranks")),
        Role(ENGINE, r.engines, engine, r.cpus_per_engine, *keys("rollout", "engines")),
        Role(JUDGE, j.replicas, j.engine_gpus, j.cpus_per_replica, *keys("judge", "replicas")),
        Role(
            WORKER,
            g.replicas,
            0.0,
            g.cpus_per_replica,
            *keys("reward.geocoder", "replicas"),
            nodes=g.nodes,
        ),
    ]
    return found[:1] if only_learner else found


def judges_share_gpus(config: Config) -> bool:
    """Say whether judges run on the GPUs that engines and ranks share."""
    return config.placement.colocate and 0 < config.judge.engine_gpus < 1


def keys(section: str, many: str) -> tuple[str, str, str]:
    """Return the configuration keys of the number, GPUs and CPUs of a role."""
    one = many.removesuffix("s")
    return f"{section}.{many}", f"{section}.gpus_per_{one}", f"{section}.cpus_per_{one}"


@dataclass(frozen=True)
class Cluster:
    """Total resources and labels of each living node."""

    nodes: Sequence[Node]
    labels: Sequence[Mapping[str, str]] = field(default=())

    def total(self, resource: str) -> float:
        """Return the sum over all nodes."""
        return sum(node.get(resource, 0.0) for node in self.nodes)

    def with_(self, where: str) -> list[Node]:
        """Return the nodes that reward.geocoder.nodes means."""
        label = split_label(where)
        if not where:
            return list(self.nodes)
        if label is None:
            return [node for node in self.nodes if node.get(where, 0.0) > 0]
        key, value = label
        return [
            n for n, labels in zip(self.nodes, self.labels, strict=True) if labels.get(key) == value
        ]

    def text(self) -> str:
        """Return what there is, in words."""
        count = f"{len(self.nodes)} node{'s' if len(self.nodes) != 1 else ''}"
        return (
            f"the cluster has {count} with {self.total('GPU'):g} GPU and {self.total('CPU'):g} CPU"
        )


def check(asked: Sequence[Role], cluster: Cluster) -> None:
    """Raise UserError (what is asked, what there is, what to change) for what can never fit.

    What passes may still not fit together, when sizes do not divide: only reserving it shows that.
    """
    for role in asked:
        if not cluster.with_(role.nodes):
            raise UserError(
                f"no node has {role.nodes!r}, where reward workers are to run ({cluster.text()}); start nodes with it "
                "or change reward.geocoder.nodes"
            )
        check_one(role, cluster)
    for resource, amount in (("GPU", "gpus"), ("CPU", "cpus")):
        wanted = [role for role in asked if getattr(role, amount) > 0]
        needed = sum(role.count * getattr(role, amount) for role in wanted)
        if needed > cluster.total(resource) + 1e-6:
            levers = " or ".join(f"{role.count_key}={role.count}" for role in wanted)
            raise UserError(
                f"the run asks for {needed:g} {resource} ({', '.join(role.text() for role in wanted)}), but "
                f"{cluster.text()}; lower {levers}, or add nodes"
            )


def check_one(role: Role, cluster: Cluster) -> None:
    """Check one bundle on one node."""
    fitting = cluster.with_(role.nodes)
    for resource, amount, key in (
        ("GPU", role.gpus, role.gpus_key),
        ("CPU", role.cpus, role.cpus_key),
    ):
        fitting = [node for node in fitting if node.get(resource, 0.0) >= amount]
        if not fitting:
            largest = max(node.get(resource, 0.0) for node in cluster.with_(role.nodes))
            raise UserError(
                f"a {role.name} asks for {amount:g} {resource} on one node, but the largest such node has {largest:g} "
                f"({cluster.text()}); lower {key} or use larger nodes"
            )
