"""Which curves stand together: the panels of the page, of the Ray dashboard's Metrics tab and of
the Grafana dashboard.

Every metric of the metric table is in some panel, and those of one panel share its axis.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geoagent_rl.metrics.table import CACHED, PART, SERVICES, metrics, names_of


@dataclass(frozen=True)
class Panel:
    """Some metrics on one axis, rows of the metric table: one with {part} stands for a line of each
    part of the reward. `band`: two metrics between which the area is shaded. `wide`: takes a whole
    row.
    """

    tab: str
    title: str
    metrics: tuple[str, ...]
    band: tuple[str, ...] = ()
    wide: bool = False

    def lines(self, parts: Sequence[str]) -> list[str]:
        """Return the names of its metrics in a run that scores these parts."""
        return [name for row in self.metrics for name in names_of(row, parts)]

    @property
    def id(self) -> str:
        """Name in URLs."""
        return "-".join(re.findall("[a-z0-9]+", self.title.lower()))


def rewards(parts: Sequence[str]) -> list[Panel]:
    """Return the panels on rewards."""
    panels = [
        Panel(
            "Rewards",
            "Total reward",
            ("reward_total_mean", "reward_total_q50"),
            _band("reward_total"),
            wide=True,
        ),
        Panel("Rewards", "Reward by component", ("reward_{part}_mean",), wide=True),
    ]
    panels += [
        Panel("Rewards", _words(p), (f"reward_{p}_mean", f"reward_{p}_q50"), _band(f"reward_{p}"))
        for p in parts
    ]
    return [
        *panels,
        Panel("Rewards", "Spread of the components", ("reward_{part}_std",)),
        Panel("Rewards", "Spread of the total", ("reward_total_std",)),
        Panel("Rewards", "Total reward on held-out pictures", ("validation_reward",)),
        Panel("Rewards", "Advantages", ("advantage_std", "advantage_abs_mean")),
        Panel("Rewards", "Groups without variance", ("zero_variance_share",)),
    ]


def samples() -> list[Panel]:
    """Return the panels on completions."""
    lengths = ("completion_tokens_mean", "completion_tokens_q90", "completion_tokens_max")
    return [
        Panel("Samples", "Unscorable: a service failed", _with_parts("unscorable_share")),
        Panel("Samples", "Faulty answers", _with_parts("data_failure_share")),
        Panel("Samples", "Cut off, unreadable", ("truncated_share", "bad_image_share")),
        Panel("Samples", "Completion length", lengths),
        Panel("Samples", "Prompt length", ("prompt_tokens_mean",)),
        Panel("Samples", "Prompts taken", ("prompts",)),
        Panel("Samples", "Epoch and stage", ("curriculum_epoch", "curriculum_stage")),
        Panel("Samples", "Prompts that no engine completed", ("lost_groups",)),
    ]


def learning() -> list[Panel]:
    """Return the panels on the optimiser."""
    singles = {
        "KL to the reference": "kl", "Entropy": "entropy", "Loss": "loss", "Clipped tokens": "clip_fraction",
        "Gradient norm": "grad_norm", "Learning rate": "lr", "Engine and learner differ by": "sampler_gap",
        "Importance weight": "importance_weight", "Tokens in the loss": "train_tokens", "Skipped steps": "step_skipped",
        "Skipped steps so far": "steps_skipped",
    }  # fmt: skip
    return [
        *(Panel("Learning", title, (name,)) for title, name in singles.items()),
        Panel("Learning", "Staleness", ("staleness_max", "staleness_mean")),
        Panel("Learning", "Policy version, step", ("version", "step")),
    ]


def speed() -> list[Panel]:
    """Return the panels on time."""
    busy = ("rollout_busy_seconds", "reward_busy_seconds", "learn_busy_seconds", "bound_seconds")
    waits = ("reward_exposed_seconds", "rollout_wait_seconds", "swap_seconds")
    queues = ("scoring_queue_mean", "scoring_queue_max", "rollout_queue_mean")
    return [
        Panel("Speed", "Step time and T*", ("step_seconds", *busy), wide=True),
        Panel("Speed", "What the learner waits for", waits),
        Panel("Speed", "Efficiency: T* / step time", ("efficiency",)),
        Panel("Speed", "Throughput", ("tokens_per_s",)),
        Panel("Speed", "Learner", ("learn_seconds", "publish_seconds")),
        Panel("Speed", "Between steps", ("save_seconds", "validation_seconds")),
        Panel("Speed", "Samples under way", queues),
    ]


def services() -> list[Panel]:
    """Return the panels on the reward services."""
    latencies = {q: (f"latency_scoring_{q}", f"latency_{PART}_{q}") for q in ("q50", "q95")}
    return [
        Panel(
            "Services",
            "Cache hits",
            ("cache_hit_share", *(f"cache_hit_share_{kind}" for kind in CACHED)),
        ),
        Panel("Services", "Latency of rewards, median", latencies["q50"]),
        Panel("Services", "Latency of rewards, 0.95 quantile", latencies["q95"]),
        Panel("Services", "Latency of completions", ("latency_rollout_q50", "latency_rollout_q95")),
        Panel("Services", "Replicas and nodes", (*(f"replicas_{s}" for s in SERVICES), "nodes")),
        Panel("Services", "Processor and GPUs", ("node_cpu_share", "gpu_share")),
        Panel("Services", "Checkpoints that the disk did not take", ("unsaved_checkpoints",)),
        Panel("Services", "Judges of a cascade", ("judge_raised_share", "judge_agreement")),
        Panel("Services", "Memory", ("node_memory_gib", "driver_memory_gib", "gpu_memory_gib")),
    ]


def panels(parts: Sequence[str]) -> list[Panel]:
    """Return all panels; each of `parts` has one of its own."""
    return [*rewards(parts), *samples(), *learning(), *speed(), *services()]


def described(parts: Sequence[str]) -> dict[str, Any]:
    """Return panels and metric table as the page gets them, for runs that score these parts."""
    return {
        "parts": list(parts),
        "panels": [
            {
                "id": p.id,
                "tab": p.tab,
                "title": p.title,
                "metrics": p.lines(parts),
                "band": p.band,
                "wide": p.wide,
            }
            for p in panels(parts)
        ],
        "metrics": {
            name: {"unit": unit, "meaning": meaning}
            for name, (unit, meaning) in metrics(parts).items()
        },
    }


def _band(name: str) -> tuple[str, str]:
    return (f"{name}_q10", f"{name}_q90")


def _with_parts(name: str) -> tuple[str, ...]:
    return (name, f"{name}_{PART}")


def _words(part: str) -> str:
    return f"{part.replace('_', ' ').capitalize()} reward"
