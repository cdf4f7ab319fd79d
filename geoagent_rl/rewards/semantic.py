"""The semantic reward R_sem = sum_i w_i * s_i over country, region, place (paper Eq. 6-7; weights
.1/.6/.3).

s_i is the clipped similarity of predicted and true name. Hierarchical gates: a level counts only if
every coarser level passed its gate, and country and region count themselves only if they pass (0.7,
0.5; inclusive), unless `below_gate_counts`. Levels the truth does not name are left out and gate
nothing; the weights of the others are rescaled to sum to 1, so that a truth of two levels can still
earn 1, unless `missing_truth` is "cap" (then it earns 0.7 at most). Pure: similarities come in as
values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from geoagent_rl.answers.hedge import without_hedges
from geoagent_rl.answers.parse import Parsed
from geoagent_rl.config.reward import RewardConfig, SemanticConfig
from geoagent_rl.rewards.ask import ask
from geoagent_rl.rewards.services import LEVELS, LevelPair, Services, Similarity
from geoagent_rl.types import InfraError, Outcome, Prompt, Rollout


async def score(
    prompt: Prompt, rollout: Rollout, parsed: Parsed, services: Services, config: RewardConfig
) -> Outcome:
    """Ask how alike the answer's names and the true ones are; see `outcome`."""
    questions = pairs(parsed.levels, prompt.truth.levels)
    found = await ask(
        services.semantic.similarities if services.semantic else None, questions, Similarity
    )
    return outcome(parsed.levels, prompt.truth.levels, found, config.semantic)


def pairs(levels: Sequence[str], truth_levels: Sequence[str]) -> tuple[LevelPair | None, ...]:
    """Return the three questions to ask, None where either side names nothing. Both names are read
    within the true coarser levels: a coarser level that is wrong closes its gate anyway. Countries
    of different names go with what lies below, which two states may claim.
    """
    predicted, true = without_hedges(levels), without_hedges(truth_levels)
    below = true[1:] if predicted[0] != true[0] else ()
    return tuple(
        LevelPair(level, predicted[i], true[i], true[:i], () if i else below)
        if predicted[i] and true[i]
        else None
        for i, level in enumerate(LEVELS)
    )


def outcome(
    levels: Sequence[str],
    truth_levels: Sequence[str],
    similarities: Sequence[Similarity | None],
    config: SemanticConfig,
) -> Outcome:
    """Pay for names that mean the same. `similarities` are aligned with pairs(levels,
    truth_levels).

    A data failure (0) when the answer names no level; left out when the truth names none (nothing
    to compare with). Raises InfraError for a similarity that is not a number."""
    predicted, true = without_hedges(levels), without_hedges(truth_levels)
    known = sum(w for w, name in zip(config.weights, true, strict=True) if name)
    whole = known if config.missing_truth == "rescale" else 1.0
    gates = (*config.gates, 0.0)
    rows, score, still_open = [], 0.0, True
    for i, level in enumerate(LEVELS):
        row = {"level": level, "predicted": predicted[i], "truth": true[i], "gate": gates[i]}
        if true[i]:
            found = similarities[i]
            value = found.value if found else 0.0
            if not math.isfinite(value):
                raise InfraError(
                    f"the encoder's similarity of {predicted[i]!r} and {true[i]!r} is {value}"
                )
            value = min(max(value, 0.0), 1.0)
            passed = value >= gates[i]
            counted = value if still_open and (passed or config.below_gate_counts) else 0.0
            still_open = still_open and passed
            weight = config.weights[i] / whole if known else 0.0
            score += weight * counted
            row |= {
                "similarity": value,
                "by": found.by if found else "",
                "counted": counted,
                "weight": weight,
            }
        rows.append(row)
    details = {"levels": rows}
    if not known:
        return Outcome("left_out", None, "the truth names no place that has a weight", details)
    if not any(predicted):
        return Outcome("data", 0.0, "the answer names no place", details)
    return Outcome("score", score, details=details)
