"""`geoagent-rl plan`: will it fit, what will it cost, how long will a step take. Formulas:
docs/plan.md.

Sizes of weights, adapters, optimizer state, key-value cache and token counts are exact or measured
(tests compare them with real engines and learners); activations, overheads and times are estimates.
Imports neither Ray nor torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from geoagent_rl.config import Config
from geoagent_rl.data.tables import count_rows, whole_rows
from geoagent_rl.geo.providers import provider_names
from geoagent_rl.plan import layout
from geoagent_rl.plan import time as plan_time
from geoagent_rl.plan.gpus import gpu
from geoagent_rl.plan.memory import GIB, Lengths, engine_memory, judge_memory, learner_memory
from geoagent_rl.plan.resources import ENGINE, JUDGE, LEARNER, Part, parts
from geoagent_rl.policy.architecture import Architecture
from geoagent_rl.policy.sizes import architecture, judge_architecture

PROMPT_CHARS = {
    "tiny": 55,
    "full": 1035,
}  # characters of a prompt besides the image; tests/unit/plan/test_plan.py
SCENES_COT_CHARS = (
    950  # mean length of an SFT text on rendered scenes; tests/unit/plan/test_plan.py
)
COMPLETION_SHARE = 0.6  # of rollout.max_tokens, where no SFT text tells
TEMPLATE_TOKENS = 15  # of the chat template: turns, roles, vision marks
JUDGE_PROMPT_TOKENS, JUDGE_ANSWER_TOKENS = (
    420,
    12,
)  # system prompt, examples, a stage's reasoning; {"conclusion": ...}
STAGES = 3


def make_plan(
    config: Config,
    completion_tokens: float = 0.0,
    cache_hits: float = 0.5,
    prompts: int = 0,
    nodes: str = "",
) -> dict[str, Any]:
    """Return the plan as JSON-able numbers: bytes, tokens, seconds, US dollars. Raises UserError
    for unknown models.
    """
    policy = architecture(config.policy.architecture or config.policy.model, "policy.model")
    judge = judge_architecture(config.judge.model)
    lengths = Lengths(
        prompt_tokens(config, policy), completion_tokens or expected_completion(config, policy)
    )
    epoch = prompts or rows(config.data.manifest) or config.steps * config.rollout.prompts_per_step
    step = work(config, lengths, cache_hits)
    steps = math.ceil(epoch / config.rollout.prompts_per_step)
    memory = {
        ENGINE: engine_memory(config, policy),
        LEARNER: learner_memory(config, policy, lengths),
        JUDGE: judge_memory(config, judge) if config.judge.has_engine else {},
    }
    roles = [role(part, memory.get(part.name, {}), config) for part in parts(config)]
    on_gpus = config.rollout.gpus_per_engine > 0 and config.learner.gpus_per_rank > 0
    time = (
        plan_time.estimate(config, policy, judge, lengths, step, gpu(config.placement.gpu))
        if on_gpus
        else None
    )
    return {
        "gpu": config.placement.gpu if on_gpus else None,
        "gpus": layout.describe(config, nodes) if on_gpus else None,
        "parameters": {
            "policy": policy.parameters,
            "lora": policy.lora_parameters(config.policy.lora_rank),
        },
        "roles": roles,
        "lengths": {"prompt_tokens": lengths.prompt, "completion_tokens": lengths.completion},
        "step": step,
        "epoch": {"prompts": epoch, "steps": steps}
        | {name: value * steps for name, value in step.items()},
        "geocoding": geocoding(config, step, steps),
        "time": time,
        "warnings": warnings(config, roles, time),
    }


def work(config: Config, lengths: Lengths, cache_hits: float) -> dict[str, float]:
    """Return what one step generates, learns and asks. Remote geocoders are asked once per level
    until one is found; what the cache does not answer is counted once per completion, equal answers
    of a group apart.
    """
    r = config.rollout
    completions = r.prompts_per_step * r.group_size
    judged = completions * STAGES if config.reward.weights.consistency else 0
    remote = any(name != "gazetteer" for name in provider_names(config.reward.geocoder.provider))
    return {
        "prompts": r.prompts_per_step,
        "completions": completions,
        "generated_tokens": completions * lengths.completion,
        "processed_tokens": completions * lengths.sequence,
        "learner_tokens": learner_tokens(config, lengths),
        "judge_calls": judged,
        "judge_tokens": judged * (JUDGE_PROMPT_TOKENS + JUDGE_ANSWER_TOKENS),
        "geocoder_calls": completions * (1 - cache_hits) if remote else 0.0,
        "geocoder_calls_at_most": completions * STAGES if remote else 0.0,
    }


def learner_tokens(config: Config, lengths: Lengths) -> float:
    """Return the tokens that the learner computes in a step: a group's prompt once where its
    completions share it."""
    r = config.rollout
    prompts = 1 if config.learner.share_prompts else r.group_size
    return r.prompts_per_step * (prompts * lengths.prompt + r.group_size * lengths.completion)


# --- lengths --------------------------------------------------------------------------------------


def prompt_tokens(config: Config, policy: Architecture) -> float:
    """Return the tokens of a prompt with a photograph."""
    image = policy.image_tokens(config.policy.max_pixels)
    if config.policy.model in ("tiny", "tiny-base"):
        image = min(image, 16)  # it knows only images of its training size
    return (
        image
        + PROMPT_CHARS.get(config.policy.system_prompt, 0) / policy.chars_per_token
        + TEMPLATE_TOKENS
    )


def expected_completion(config: Config, policy: Architecture) -> float:
    """Return the expected tokens of a completion. A policy answers as long as the texts that it was
    shown in Step II; at most rollout.max_tokens."""
    chars = (
        SCENES_COT_CHARS if config.sft.manifest == "scenes" else mean_cot_chars(config.sft.manifest)
    )
    length = (
        chars / policy.chars_per_token if chars else COMPLETION_SHARE * config.rollout.max_tokens
    )
    return min(length, config.rollout.max_tokens)


def mean_cot_chars(manifest: str) -> float:
    """Return the mean tokens of the SFT texts in a manifest (.jsonl or .parquet); 0 where it is not
    here yet."""
    path = Path(manifest)
    if not manifest or not path.is_file():
        return 0.0
    texts = (values.get("cot") for _, values in whole_rows(path, ["cot"]))
    known = [len(text) for text in texts if text]
    return sum(known) / len(known) if known else 0.0


def rows(manifest: str) -> int:
    """Count the rows of a manifest (.jsonl or .parquet); 0 where it is not here yet."""
    path = Path(manifest)
    return count_rows(path) if manifest and path.is_file() else 0


# --- roles, cost, warnings ------------------------------------------------------------------------


def role(part: Part, memory: dict[str, float], config: Config) -> dict[str, Any]:
    """Return a part with its bundle and memory. `fits`: None on CPUs, where memory is the
    machine's.
    """
    row = {
        "role": part.name,
        "count": part.count,
        "gpus": part.gpus,
        "cpus": part.cpus,
        "nodes": part.nodes,
    }
    if not memory:
        return row
    used = sum(value for name, value in memory.items() if name != "cache_tokens")
    row |= {"memory": memory, "total": used}
    if part.gpus:
        capacity = gpu(config.placement.gpu).memory_gib * GIB * min(1.0, part.gpus)
        if part.name == LEARNER and config.placement.colocate:
            capacity = gpu(config.placement.gpu).memory_gib * GIB * (1 - config.judge.engine_gpus)
        room = memory.get("kv_cache", 1.0) > 0
        row |= {"capacity": capacity, "fits": used <= capacity + 1 and room}
    return row


def geocoding(config: Config, step: dict[str, float], steps: int) -> dict[str, float]:
    """Return the calls of an epoch, their price, and the days that the daily budget makes them
    last."""
    c = config.reward.geocoder.opencage
    if "opencage" not in provider_names(config.reward.geocoder.provider):
        return {}
    calls = step["geocoder_calls"] * steps
    budget = c.daily_budget * len(c.api_key_env)
    return {
        "opencage_calls": calls,
        "opencage_usd": calls * c.usd_per_1000 / 1000,
        "days_by_budget": calls / budget if budget else 0.0,
        "calls_per_s": c.rate_per_s * len(c.api_key_env),
    }


def warnings(config: Config, roles: list[dict[str, Any]], time: dict[str, Any] | None) -> list[str]:
    """Return what the user should know about this plan, one sentence each."""
    found = []
    r = config.rollout
    most = r.prompts_per_step * (
        1 + config.max_staleness
    )  # a prompt's completions are one engine's work
    if r.engines > most:
        found.append(
            f"{r.engines - most} of {r.engines} rollout engines have nothing to do: at most {most} prompts are under "
            "way (rollout.prompts_per_step, and as many more for each max_staleness)"
        )
    for row in roles:
        if row.get("fits") is False:
            found.append(
                f"{row['role']}: {row['total'] / GIB:.1f} GiB of {row['capacity'] / GIB:.0f} GiB"
                + (
                    ", no room for a key-value cache"
                    if row["memory"].get("kv_cache", 1) <= 0
                    else ""
                )
            )
    if time and time["critical"] in ("geocoder", "judge"):
        found.append(f"the {time['critical']} sets the pace: GPUs wait for it")
    return found


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
        seconds = ", ".join(f"{name} {value:.1f}" for name, value in t["seconds"].items())
        hours = t["step_seconds"] * e["steps"] / 3600
        lines.append(
            f"step {t['step_seconds']:.1f} s ({seconds} s alone), an epoch {hours:.1f} h; critical: {t['critical']}"
        )
    else:
        lines.append("step time: not estimated for CPUs")
    return "\n".join(lines + [f"warning: {text}" for text in plan["warnings"]])


def size(amount: float) -> str:
    """GiB; small ones in MiB, with the unit."""
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
