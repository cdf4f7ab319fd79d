"""The one evaluation loop: every photograph through the engines, one prediction row each, as they
end.

Training's validation, `eval run`, the demo and ablations all evaluate this way: `locate` makes
prediction rows, predictions.from_rows reads them, summary.summarise makes figures of them. With
several completions per photograph the consensus is the medoid: the located answer that is nearest
to all the others. A row is only made of an answer: where an engine or a reward service fails, the
photograph has no row. Works against the driver's protocols (engines, scorer): real actors or
fakes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoagent_rl.answers.forms import position
from geoagent_rl.answers.parse import parse
from geoagent_rl.config import RolloutConfig
from geoagent_rl.data.images import BadImage
from geoagent_rl.data.sample import Sample
from geoagent_rl.generation import Engine, Scorer, generate_and_score
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.plan.memory import MOST_SEQUENCES
from geoagent_rl.rewards.services import LEVELS
from geoagent_rl.types import InfraError, Outcome, Sampling, ScoredRollout, UserError

log = logging.getLogger(__name__)
Prediction = dict[str, Any]  # one row of a prediction file, see docs/evaluation.md

NOT_LOOKED_UP = Outcome("data", 0.0, "reward.weights.spatial is 0: nobody looked the place up")
SAME = 0.999  # a level whose similarity is this high names the true place


async def locate(
    samples: Sequence[Sample],
    engines: Sequence[Engine],
    scorer: Scorer,
    sampling: Sampling,
    rollout: RolloutConfig,
    keep: Callable[[Prediction], None],
) -> int:
    """Call `keep` with each photograph's row, in the order in which they are done; return how many
    have none.

    As many photographs are under way as the engines take at once; one whose engine fails is tried
    again, by another if there is one. A photograph's completions depend on the seed and its uid
    only, not on which others are asked or in what order. One that cannot be decoded is a failed
    prediction. Raises InfraError when every photograph fails."""
    together = rollout.max_num_seqs or MOST_SEQUENCES
    free = asyncio.Semaphore(len(engines) * max(1, together // sampling.n))
    problems: list[str] = []

    async def one(i: int, sample: Sample) -> None:
        async with free:
            try:
                scored = await generate_and_score(
                    engines, i, scorer, sample.prompt(), sampling, rollout.timeout_s
                )
                keep(prediction_row(sample, scored))
            except BadImage as error:
                keep({**_truth(sample), "failure": f"photograph: {error}"})
            except InfraError as error:
                log.warning("%s: %s", sample.uid, error)
                problems.append(str(error))

    try:
        async with asyncio.TaskGroup() as group:
            for i, sample in enumerate(samples):
                group.create_task(one(i, sample))
    except* UserError as errors:
        raise errors.exceptions[0] from None
    if samples and len(problems) == len(samples):
        raise InfraError(f"no photograph could be located; the last: {problems[-1]}")
    return len(problems)


def prediction_row(sample: Sample, scored: Sequence[ScoredRollout]) -> Prediction:
    """Return one row: truth, consensus, its completion, what the rewards say of it.

    Raises InfraError when a completion's place could not be looked up: that says nothing about the
    answer."""
    places = [s.parts.get("spatial", NOT_LOOKED_UP) for s in scored]
    for place in places:
        if place.kind == "infra":
            raise InfraError(f"{sample.uid}: {place.reason}")
    found = [(i, place.details) for i, place in enumerate(places) if place.kind == "score"]
    points = np.array([(d["lat"], d["lon"]) for _, d in found]).reshape(-1, 2)
    best, spread = medoid(points) if found else (0, None)
    chosen = found[best][0] if found else 0
    row = {
        **_truth(sample),
        **_answer(scored[chosen]),
        "completions": len(scored),
        "located": len(found),
        "spread_km": spread,
    }
    if found:
        details = found[best][1]
        return row | {
            "pred_lat": details["lat"],
            "pred_lon": details["lon"],
            "level": details["level"],
            "failure": "",
        }
    return row | {"failure": places[chosen].reason}


def medoid(points: NDArray[np.float64]) -> tuple[int, float | None]:
    """Return (index of the point whose mean distance to the others is least, the first of equals;
    that mean, km, None for one point). points: (k, 2) degrees, k at least 1."""
    if len(points) == 1:
        return 0, None
    lat, lon = points.T
    sums = haversine_km(lat[:, None], lon[:, None], lat[None, :], lon[None, :]).sum(axis=1)
    best = int(np.argmin(np.round(sums, 6)))
    return best, float(sums[best] / (len(points) - 1))


def _truth(sample: Sample) -> Prediction:
    names = {name: getattr(sample, name) for name in ("country", "region", "place", "scene")}
    return {"uid": sample.uid, "gt_lat": sample.lat, "gt_lon": sample.lon, "pred_lat": None, "pred_lon": None, **names,
            "locatability": sample.locatability}  # fmt: skip


def _answer(scored: ScoredRollout) -> Prediction:
    """Return the chosen completion in columns; what no reward part looked at is left out."""
    parsed = parse(scored.rollout.text)
    spatial, form = scored.parts.get("spatial"), scored.parts.get("format")
    levels = spatial.details.get("levels", parsed.levels) if spatial else parsed.levels
    answer = "; ".join(levels) if any(levels) else ""
    if spatial and spatial.details.get("level") == "position":
        answer = answer or position(spatial.details["lat"], spatial.details["lon"])
    row: Prediction = {"answer": answer, "text": scored.rollout.text}
    # The format part knows policy.answer; without it the answer counts as one of three levels.
    row["format_valid"] = form.score if form and form.score is not None else float(parsed.format_ok)
    row["finish_reason"] = scored.rollout.finish_reason
    for level, stage in zip(LEVELS, parsed.stages, strict=False):
        row[f"uncertainty_{level}"] = stage.uncertainty or None
    row["reward_total"] = scored.total
    row |= {f"reward_{name}": outcome.score for name, outcome in scored.parts.items()}
    semantic, consistency = scored.parts.get("semantic"), scored.parts.get("consistency")
    if semantic is not None and semantic.score is not None:
        rows = {r["level"]: r for r in semantic.details.get("levels", ())}
        row |= {
            f"right_{level}": float(rows.get(level, {}).get("similarity", 0) >= SAME)
            for level in LEVELS
        }
    if consistency is not None and consistency.score is not None:
        row["agrees"] = [stage["agree"] for stage in consistency.details.get("stages", ())]
    return row
