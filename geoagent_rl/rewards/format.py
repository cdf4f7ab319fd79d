"""The format rewards: 1 when the completion has exactly the form that was asked for, else 0 with
the reason.

What counts as that form is decided in answers/parse.py alone. `format` is the whole form, or with
style "tags" only its blocks; `answer_format` is the answer block alone: these two, each with weight
1, are what the authors' code pays. Asks no service."""

from __future__ import annotations

from geoagent_rl.answers.parse import NO_STAGE, Parsed, answer_parts, only_blocks
from geoagent_rl.config.reward import FormatConfig, RewardConfig
from geoagent_rl.rewards.services import Services
from geoagent_rl.types import Outcome, Prompt, Rollout


async def score(
    prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Services, config: RewardConfig
) -> Outcome:
    """Score the whole form; see `outcome`."""
    return outcome(parsed, rollout.text, config.format)


async def score_answer(
    prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Services, config: RewardConfig
) -> Outcome:
    """Score the answer block alone; see `answer_outcome`."""
    return answer_outcome(rollout.text)


def outcome(parsed: Parsed, text: str, config: FormatConfig) -> Outcome:
    """Return how much of the form was kept."""
    details = {
        "levels": list(parsed.levels),
        "stages": sum(stage != NO_STAGE for stage in parsed.stages),
    }
    if config.style == "tags":
        ok, problem = (
            only_blocks(text),
            "not one <think> block and one <answer> block, with nothing round them",
        )
    else:
        ok, problem = parsed.format_ok, parsed.problem
    return Outcome("score", 1.0, details=details) if ok else Outcome("data", 0.0, problem, details)


def answer_outcome(text: str) -> Outcome:
    """Return 1 for two or three levels in the first answer block, separated by ASCII ";". Blank
    parts do not count, as in the authors' code: "Zambia; Lusaka Province;" has two."""
    parts = answer_parts(text)
    filled = sum(map(bool, parts))
    if 2 <= filled <= 3:
        return Outcome("score", 1.0, details={"parts": filled})
    problem = f"{filled} levels in the answer, not 2 or 3" if parts else "no answer block"
    return Outcome("data", 0.0, problem, {"parts": filled})
