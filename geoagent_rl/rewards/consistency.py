"""The consistency reward R_con = sum_i w_i * f(len_i) * [agent's conclusion = policy's conclusion]
(paper Eq. 8-9).

An agent that sees a stage's reasoning and the policy's earlier conclusions, but neither the clues
nor the stage's own conclusion, derives one. It must agree with the target: the policy's own
conclusion, or with `against: truth` the true name (levels the truth does not name are left out and
the other weights rescaled). Both agree when they are equal as normalised text or the same place in
the gazetteer; an empty or hedging name ("unknown") agrees with nothing, not even with the agent's
own "unknown": declining must not earn. Nor does a conclusion of the policy's own that says a wider
one again ("Germany" for the region) or contradicts it ("Berlin" in Bavaria). With `agreement:
string` (the authors' code) they agree when they are the same characters but for spaces, whatever
they say. f is the length factor on the reasoning's characters (runs of white space count as one, so
padding does not help). A stage that cannot earn is not sent to the agent.
Pure: verdicts and comparisons come in as values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from geoagent_rl.answers.hedge import is_hedge, without_hedges
from geoagent_rl.answers.parse import Parsed, Stage
from geoagent_rl.config.reward import ConsistencyConfig, RewardConfig
from geoagent_rl.geo.folding import normalise
from geoagent_rl.rewards.ask import ask
from geoagent_rl.rewards.services import LEVELS, JudgeItem, LevelPair, Services, Verdict
from geoagent_rl.types import Outcome, Prompt, Rollout


async def score(
    prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Services, config: RewardConfig
) -> Outcome:
    """Ask the agent what the reasoning concludes, and the gazetteer whether that is what the policy
    concluded; see `outcome`.
    """
    c = config.consistency
    if nothing_to_judge(prompt.truth.levels, c):
        return Outcome("left_out", None, "the truth names no place that has a weight")
    names = targets(parsed.stages, prompt.truth.levels, c)
    asked = questions(parsed.stages, names, c)
    verdicts = await ask(services.judge.judge if services.judge else None, asked, Verdict)
    pairs = comparisons(names, verdicts, c)
    same = await ask(services.semantic.same_place if services.semantic else None, pairs, bool)
    return outcome(parsed, names, verdicts, same, c)


def reasoning_text(stage: Stage) -> str:
    """Return the reasoning of a stage in one line."""
    return " ".join(stage.reasoning.split())


def length_factor(characters: int, config: ConsistencyConfig) -> float:
    """Return 0 below min_chars, 1 above max_chars, between them sigmoid(steepness * (x - midpoint))
    with x in [0, 1].

    With the authors' constants (90, 200, 8, 0.5) it is 0.018 at 90 and 0.982 at 200: the jumps at
    both ends are theirs."""
    if characters < config.min_chars:
        return 0.0
    if characters > config.max_chars or config.max_chars <= config.min_chars:
        return 1.0
    x = (characters - config.min_chars) / (config.max_chars - config.min_chars)
    return 1.0 / (1.0 + math.exp(-config.steepness * (x - config.midpoint)))


def targets(
    stages: Sequence[Stage], truth_levels: Sequence[str], config: ConsistencyConfig
) -> tuple[str, ...]:
    """Return the names that the agent's conclusions must agree with, one per stage; "" where the
    truth names none.
    """
    if config.against == "truth":
        return without_hedges(truth_levels)[: len(stages)]
    return tuple(" ".join(stage.conclusion.split()) for stage in stages)


def nothing_to_judge(truth_levels: Sequence[str], config: ConsistencyConfig) -> bool:
    """Say whether the conclusions must agree with true names of which none has a weight. Then no
    completion of the prompt can earn, and the part is left out of all of them."""
    named = zip(without_hedges(truth_levels), config.weights, strict=True)
    return config.against == "truth" and not any(name and weight for name, weight in named)


def questions(
    stages: Sequence[Stage], targets: Sequence[str], config: ConsistencyConfig
) -> tuple[JudgeItem | None, ...]:
    """Return what to ask the agent, one entry per stage; None for a stage that cannot earn
    anything.
    """
    items: list[JudgeItem | None] = []
    for i, (stage, target) in enumerate(zip(stages, targets, strict=True)):
        text = reasoning_text(stage)
        hopeless = _nameless(target, config) or not text or length_factor(len(text), config) == 0.0
        earlier = tuple(" ".join(s.conclusion.split()) for s in stages[:i] if s.conclusion)
        items.append(None if hopeless else JudgeItem(LEVELS[i], earlier, text))
    return tuple(items)


def comparisons(
    targets: Sequence[str], verdicts: Sequence[Verdict | None], config: ConsistencyConfig
) -> tuple[LevelPair | None, ...]:
    """Return what to ask the gazetteer: stages whose two names differ as text and are both names,
    and conclusions of the policy's own that may not hold together with its wider ones.
    """
    pairs: list[LevelPair | None] = []
    for i, (target, verdict) in enumerate(zip(targets, verdicts, strict=True)):
        if config.agreement == "string" or verdict is None or is_hedge(verdict.conclusion):
            pairs.append(None)
            continue
        must_fit = config.against == "own" and any(targets[:i])
        if _equal(target, verdict, config) and not must_fit:
            pairs.append(None)
            continue
        pairs.append(
            LevelPair(LEVELS[i], " ".join(verdict.conclusion.split()), target, tuple(targets[:i]))
        )
    return tuple(pairs)


def outcome(
    parsed: Parsed,
    targets: Sequence[str],
    verdicts: Sequence[Verdict | None],
    same: Sequence[bool | None],
    config: ConsistencyConfig,
) -> Outcome:
    """Pay for agreement: `verdicts` answer questions(), `same` answer comparisons(). A data failure
    (0) without readable stages."""
    if not parsed.stages:
        return Outcome(
            "data", 0.0, parsed.problem or "no readable chain of thought", {"stages": []}
        )
    weights = _weights(targets, config)
    rows, score = [], 0.0
    for i, (stage, target) in enumerate(zip(parsed.stages, targets, strict=True)):
        verdict, characters = verdicts[i], len(reasoning_text(stage))
        factor = length_factor(characters, config)
        by = (
            ""
            if verdict is None or same[i] is False
            else "text"
            if _equal(target, verdict, config)
            else "gazetteer"
            if same[i]
            else ""
        )
        earned = weights[i] * factor if by else 0.0
        score += earned
        rows.append(
            {
                "stage": LEVELS[i],
                "conclusion": stage.conclusion,
                "target": target,
                "judge": None if verdict is None else verdict.conclusion,
                "judge_by": None if verdict is None else verdict.by,
                "judge_seconds": None if verdict is None else verdict.seconds,
                "not_asked": _why_not(target, factor, config) if verdict is None else "",
                "agree": bool(by),
                "by": by,
                "characters": characters,
                "length_factor": factor,
                "weight": weights[i],
                "earned": earned,
            }
        )
    return Outcome("score", score, details={"stages": rows})


def _weights(targets: Sequence[str], config: ConsistencyConfig) -> tuple[float, ...]:
    if config.against == "own":
        return tuple(config.weights)
    known = sum(weight for weight, name in zip(config.weights, targets, strict=True) if name)
    if not known:
        return (0.0,) * len(targets)
    return tuple(
        weight / known if name else 0.0
        for weight, name in zip(config.weights, targets, strict=True)
    )


def _equal(target: str, verdict: Verdict, config: ConsistencyConfig) -> bool:
    if config.agreement == "string":
        return target.replace(" ", "") == verdict.conclusion.replace(" ", "")
    same = normalise(target) == normalise(verdict.conclusion)
    return same and not is_hedge(target) and not is_hedge(verdict.conclusion)


def _nameless(target: str, config: ConsistencyConfig) -> bool:
    """Names nothing, so that no verdict agrees with it. As strings, two ways of saying "unknown" do
    agree.
    """
    if config.agreement == "string" and config.against == "own":
        return False
    return is_hedge(target)


def _why_not(target: str, factor: float, config: ConsistencyConfig) -> str:
    if _nameless(target, config):
        return (
            "the conclusion names no place"
            if config.against == "own"
            else "the truth does not name this level"
        )
    return "the reasoning is too short" if factor == 0.0 else "no reasoning"
