"""A plan for people: `geoagent-rl plan` without --json."""

from __future__ import annotations

from typing import Any

from geoagent_rl.plan import layout, other_layout
from geoagent_rl.plan.memory import GIB
from geoagent_rl.plan.resources import ENGINE


def show(plan: dict[str, Any]) -> str:
    """Return the plan for people."""
    lines = [f"{'role':<16}{'n':>4}{'GPU':>6}{'CPU':>6}  memory of each GPU (or process), GiB"]
    for row in plan["roles"]:
        memory = row.get("memory", {})
        cells = ", ".join(
            f"{k.replace('_', ' ')} {size(v)}" for k, v in memory.items() if k != "cache_tokens"
        )
        total = size(row["total"]) if memory else ""
        limit = f" of {row['capacity'] / GIB:.0f}" if "capacity" in row else ""
        sizes = (
            f"{total}{limit}: {cells}"
            if memory
            else row["nodes"] and f"on nodes with {row['nodes']}"
        )
        lines.append(
            f"{row['role']:<16}{row['count']:>4}{row['gpus']:>6g}{row['cpus']:>6g}  {sizes}".rstrip()
        )
        if "cache_tokens" in memory:
            length = plan["lengths"]["prompt_tokens"] + plan["lengths"]["completion_tokens"]
            fitting = memory["cache_tokens"] / length if row["role"] == ENGINE else 0
            more = f", {fitting:,.0f} whole sequences" if fitting else ""
            lines.append(f"{'':<34}cache holds {memory['cache_tokens']:,} tokens{more}")
    if plan["gpus"]:
        lines.append(layout.text(plan["gpus"]))
    p, s, e, n = plan["parameters"], plan["step"], plan["epoch"], plan["lengths"]
    lines += [
        f"policy {p['policy']:,} parameters, LoRA {p['lora']:,} ({p['lora'] / (p['policy'] + p['lora']):.2%})",
        f"a prompt {n['prompt_tokens']:.0f} tokens, a completion {n['completion_tokens']:.0f}",
        count_line("step", s),
        count_line(f"epoch of {e['prompts']:,} prompts in {e['steps']:,} steps", e),
    ]
    if g := plan["geocoding"]:
        lines.append(
            f"OpenCage: {g['opencage_calls']:,.0f} calls an epoch, {g['opencage_usd']:,.2f} USD, at least "
            f"{g['days_by_budget']:.1f} days by the daily budget"
        )
    if t := plan["time"]:
        lines += time_lines(t, plan["other_layout"], e["steps"])
    else:
        lines.append("step time: not estimated for CPUs")
    return "\n".join(lines + [f"warning: {text}" for text in plan["warnings"]])


def size(amount: float) -> str:
    """Write GiB; small ones in MiB, with the unit."""
    return f"{amount / GIB:.1f}" if amount >= 0.095 * GIB else f"{amount / 2**20:.1f} MiB"


def count_line(what: str, n: dict[str, float]) -> str:
    """Return one line on the size of a step."""
    calls = (
        f", {n['geocoder_calls']:,.0f} geocoder calls (at most {n['geocoder_calls_at_most']:,.0f})"
    )
    return (
        f"{what}: {n['completions']:,} completions, {n['generated_tokens']:,.0f} generated tokens, "
        f"{n['processed_tokens']:,.0f} learnt from with prompts, {n['judge_calls']:,} judge calls"
        + (calls if n["geocoder_calls_at_most"] else "")
    )


def time_lines(time: dict[str, Any], other: dict[str, Any] | None, steps: int) -> list[str]:
    """Return the lines on seconds: of a step, of its parts, and of the same GPUs the other way."""
    hours = time["step_seconds"] * steps / 3600
    alone = ", ".join(f"{name} {value:.1f}" for name, value in time["seconds"].items())
    lines = [
        f"step {time['step_seconds']:.1f} s ({alone} s alone), an epoch {hours:.1f} h; "
        f"critical: {time['critical']}; constants: {time['constants']}"
    ]
    if time["terms"]:
        goes = ", ".join(f"{n} {v:.2f}" for n, v in time["terms"].items() if v >= 0.005)
        lines.append(f"where it goes, s: {goes}")
    if other:
        lines.append(other_layout.text(time, other))
    return lines
