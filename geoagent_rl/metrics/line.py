"""The live line of a step for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from geoagent_rl.metrics.table import parts_measured


def summary_line(step: int, steps: int, row: Mapping[str, float]) -> str:
    """Return the live line: step, reward parts, tokens/s, what the learner waited for, and the
    time left if each step to come takes as long as this one.
    """
    parts = " ".join(f"{p[:3]} {row[f'reward_{p}_mean']:.2f}" for p in parts_measured(row))
    waits = {
        "rollout": row["rollout_wait_seconds"],
        "rewards": row["reward_exposed_seconds"],
        "swap": row["swap_seconds"],
    }
    longest = max(waits, key=lambda what: waits[what])
    return (
        f"step {step}/{steps}  reward {row['reward_total_mean']:.3f}  [{parts}]  {row['tokens_per_s']:.0f} tok/s  "
        f"{row['step_seconds']:.1f} s  waited {waits[longest]:.1f} s for {longest}"
        f"  {duration((steps - step) * row['step_seconds'])} left"
    )


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them: "40 s", "12 min", "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
