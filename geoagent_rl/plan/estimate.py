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
from geoagent_rl.plan.costs import Costs
from geoagent_rl.plan.fit import Memories, capacity_of, fits, memories, total_of
from geoagent_rl.plan.gpus import gpu
from geoagent_rl.plan.memory import GIB, Lengths
from geoagent_rl.plan.other_layout import other_layout
from geoagent_rl.plan.resources import Role, roles
from geoagent_rl.plan.schedule import STAGES, step_time
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


def make_plan(
    config: Config,
    completion_tokens: float = 0.0,
    cache_hits: float = 0.5,
    prompts: int = 0,
    nodes: str = "",
    measured: Path | None = None,
) -> dict[str, Any]:
    """Return the plan as JSON-able numbers: bytes, tokens, seconds, US dollars. Raises UserError
    for unknown models.

    measured: a file of measurements whose constants replace the package's (plan/measured.py)."""
    policy = architecture(config.policy.architecture or config.policy.model, "policy.model")
    judge = judge_architecture(config.judge.model)
    lengths = Lengths(
        prompt_tokens(config, policy), completion_tokens or expected_completion(config, policy)
    )
    epoch = prompts or rows(config.data.manifest) or config.steps * config.rollout.prompts_per_step
    step = work(config, lengths, cache_hits)
    steps = math.ceil(epoch / config.rollout.prompts_per_step)
    memory = memories(config, policy, judge, lengths)
    table = [role_row(role, config, memory) for role in roles(config)]
    on_gpus = config.rollout.gpus_per_engine > 0 and config.learner.gpus_per_rank > 0
    card = gpu(config.placement.gpu, measured)
    costs = Costs(config, policy, judge, card, lengths)
    time = step_time(costs, step) if on_gpus else None
    return {
        "gpu": config.placement.gpu if on_gpus else None,
        "gpus": layout.describe(config, nodes) if on_gpus else None,
        "other_layout": other_layout(costs, step) if on_gpus else None,
        "parameters": {
            "policy": policy.parameters,
            "lora": policy.lora_parameters(config.policy.lora_rank),
        },
        "roles": table,
        "lengths": {"prompt_tokens": lengths.prompt, "completion_tokens": lengths.completion},
        "step": step,
        "epoch": {"prompts": epoch, "steps": steps}
        | {name: value * steps for name, value in step.items()},
        "geocoding": geocoding(config, step, steps),
        "time": time,
        "warnings": warnings(config, table, time),
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


def role_row(role: Role, config: Config, of: Memories) -> dict[str, Any]:
    """Return a role with its bundle and memory. `fits`: None on CPUs, where memory is the
    machine's.
    """
    memory = of.get(role.name, {})
    row = {
        "role": role.name,
        "count": role.count,
        "gpus": role.gpus,
        "cpus": role.cpus,
        "nodes": role.nodes,
    }
    if not memory:
        return row
    row |= {"memory": memory, "total": total_of(memory)}
    if role.gpus:
        row |= {
            "capacity": capacity_of(role, config, of),
            "fits": fits(role, config, of),
        }
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


def warnings(config: Config, table: list[dict[str, Any]], time: dict[str, Any] | None) -> list[str]:
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
    for row in table:
        if row.get("fits") is False:
            found.append(
                f"{row['role']}: {row['total'] / GIB:.1f} GiB of {row['capacity'] / GIB:.0f} GiB"
                + (
                    ", no room for a key-value cache"
                    if row["memory"].get("kv_cache", 1) <= 0
                    else ""
                )
            )
    j = config.judge
    if time and j.has_engine and not j.gpus_per_replica and config.reward.weights.consistency:
        found.append(
            f"{j.model} judges on CPUs (judge.gpus_per_replica=0): how long that takes is not known and not in the step"
        )
    if time and time["critical"] in ("geocoder", "judge"):
        found.append(f"the {time['critical']} sets the pace: GPUs wait for it")
    return found
