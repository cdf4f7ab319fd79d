"""The consistency reward R_con = sum_i w_i * f(len_i) * [agent's conclusion = policy's conclusion] (paper Eq. 8-9).

An agent that sees a stage's reasoning and the policy's earlier conclusions, but not the stage's own conclusion,
derives one. Both agree when they are equal as normalised text or the same place in the gazetteer. f is the length
factor on the reasoning's characters (runs of white space count as one, so padding does not help). An empty or hedging
conclusion ("unknown") agrees with nothing, not even with the agent's own "unknown": declining must not earn. A stage
that cannot earn is not sent to the agent. Pure: verdicts and comparisons come in as values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from geoagent_rl.config import ConsistencyConfig
from geoagent_rl.geo.places import normalise
from geoagent_rl.policy.answer import Parsed, Stage
from geoagent_rl.rewards.hedge import is_hedge
from geoagent_rl.rewards.services import LEVELS, JudgeItem, LevelPair, Verdict
from geoagent_rl.types import Outcome


def reasoning_text(stage: Stage) -> str:
    return " ".join(stage.reasoning.split())


def length_factor(characters: int, config: ConsistencyConfig) -> float:
    """0 below min_chars, 1 above max_chars, between them sigmoid(steepness * (x - midpoint)) with x in [0, 1].

    With the authors' constants (90, 200, 8, 0.5) it is 0.018 at 90 and 0.982 at 200: the jumps at both ends are theirs.
    """
    if characters < config.min_chars:
        return 0.0
    if characters > config.max_chars or config.max_chars <= config.min_chars:
        return 1.0
    x = (characters - config.min_chars) / (config.max_chars - config.min_chars)
    return 1.0 / (1.0 + math.exp(-config.steepness * (x - config.midpoint)))


def questions(stages: Sequence[Stage], config: ConsistencyConfig) -> tuple[JudgeItem | None, ...]:
    """What to ask the agent, one entry per stage; None for a stage that cannot earn anything."""
    items: list[JudgeItem | None] = []
    for i, stage in enumerate(stages):
        text = reasoning_text(stage)
        hopeless = is_hedge(stage.conclusion) or not text or length_factor(len(text), config) == 0.0
        earlier = tuple(" ".join(s.conclusion.split()) for s in stages[:i])
        items.append(None if hopeless else JudgeItem(LEVELS[i], earlier, text))
    return tuple(items)


def comparisons(stages: Sequence[Stage], verdicts: Sequence[Verdict | None]) -> tuple[LevelPair | None, ...]:
    """What to ask the gazetteer: stages whose two conclusions differ as text and are both names."""
    pairs: list[LevelPair | None] = []
    for i, (stage, verdict) in enumerate(zip(stages, verdicts, strict=True)):
        if verdict is None or is_hedge(verdict.conclusion) or _equal(stage, verdict):
            pairs.append(None)
            continue
        within = tuple(" ".join(s.conclusion.split()) for s in stages[:i])
        a, b = (" ".join(text.split()) for text in (verdict.conclusion, stage.conclusion))
        pairs.append(LevelPair(LEVELS[i], a, b, within))
    return tuple(pairs)


def outcome(
    parsed: Parsed, verdicts: Sequence[Verdict | None], same: Sequence[bool | None], config: ConsistencyConfig
) -> Outcome:
    """`verdicts` answer questions(), `same` answer comparisons(). A data failure (0) without readable stages."""
    if not parsed.stages:
        return Outcome("data", 0.0, parsed.problem or "no readable chain of thought", {"stages": []})
    rows, score = [], 0.0
    for i, (stage, verdict, one_place) in enumerate(zip(parsed.stages, verdicts, same, strict=True)):
        characters = len(reasoning_text(stage))
        factor = length_factor(characters, config)
        by = "" if verdict is None else "text" if _equal(stage, verdict) else "gazetteer" if one_place else ""
        earned = config.weights[i] * factor if by else 0.0
        score += earned
        rows.append(
            {
                "stage": LEVELS[i],
                "conclusion": stage.conclusion,
                "judge": None if verdict is None else verdict.conclusion,
                "judge_seconds": None if verdict is None else verdict.seconds,
                "not_asked": _why_not(stage, factor) if verdict is None else "",
                "agree": bool(by),
                "by": by,
                "characters": characters,
                "length_factor": factor,
                "weight": config.weights[i],
                "earned": earned,
            }
        )
    return Outcome("score", score, details={"stages": rows})


def _equal(stage: Stage, verdict: Verdict) -> bool:
    own, agents = normalise(stage.conclusion), normalise(verdict.conclusion)
    return own == agents and not is_hedge(stage.conclusion) and not is_hedge(verdict.conclusion)


def _why_not(stage: Stage, factor: float) -> str:
    if is_hedge(stage.conclusion):
        return "the conclusion names no place"
    return "the reasoning is too short" if factor == 0.0 else "no reasoning"
