"""Evaluation of one policy on one set of photographs: generate, score with the same rewards,
tabulate.

Works against the driver's protocols (engines, scorer): real actors or fakes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from geoagent_rl.data.images import BadImage
from geoagent_rl.driver import Engine, Scorer, generate_and_score
from geoagent_rl.evaluation.metrics import score_table
from geoagent_rl.metrics.table import mean, part_names
from geoagent_rl.types import InfraError, Prompt, ScoredRollout, UserError

log = logging.getLogger(__name__)

CONCURRENT = 64  # photographs under way at once, for each engine
TIMEOUT_S = 600.0  # for one attempt at one photograph
SAME = 0.999  # a level whose similarity is this high names the true place


async def evaluate(
    prompts: Sequence[Prompt],
    engines: Sequence[Engine],
    scorer: Scorer,
    temperature: float,
    geoscore_scale_km: float,
    seed: int = 0,
    banned: tuple[int, ...] = (),
) -> tuple[dict[str, Any], list[ScoredRollout]]:
    """One completion per photograph; returns (table, scored rollouts in the order of `prompts`),
    both without the photographs that cannot be decoded.

    `banned` token ids are never sampled (the un-hedging control bans those of "unknown").
    """
    found = await locate_all(prompts, engines, scorer, temperature, seed, banned)
    readable = [prompt for prompt, s in zip(prompts, found, strict=True) if s is not None]
    scored = [s for s in found if s is not None]
    return tabulate(readable, scored, geoscore_scale_km), scored


async def validate(
    prompts: Sequence[Prompt],
    engines: Sequence[Engine],
    scorer: Scorer,
    temperature: float,
    seed: int,
) -> float:
    """Mean total reward of one completion per photograph; NaN when none could be scored."""
    scored = await locate_all(prompts, engines, scorer, temperature, seed)
    return mean([s.total for s in scored if s is not None and s.total is not None])


async def locate_all(
    prompts: Sequence[Prompt],
    engines: Sequence[Engine],
    scorer: Scorer,
    temperature: float,
    seed: int,
    banned: tuple[int, ...] = (),
) -> list[ScoredRollout | None]:
    """One scored completion per photograph, in order; None for one that cannot be decoded. Raises
    InfraError.
    """
    free = asyncio.Semaphore(CONCURRENT * len(engines))

    async def locate(i: int, prompt: Prompt) -> ScoredRollout | None:
        async with free:
            options = {"temperature": temperature, "banned": banned}
            own_seed = seed * 1_000_003 + i
            try:
                return (
                    await generate_and_score(
                        engines, i, scorer, prompt, 1, own_seed, TIMEOUT_S, **options
                    )
                )[0]
            except BadImage as error:  # as in training: one photograph, not the run
                log.warning("%s: left out: %s", prompt.uid, error)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(locate(i, prompt)) for i, prompt in enumerate(prompts)]
    except* (UserError, InfraError) as errors:
        raise errors.exceptions[0] from None
    return [t.result() for t in tasks]


def tabulate(
    prompts: Sequence[Prompt], scored: Sequence[ScoredRollout], geoscore_scale_km: float
) -> dict[str, Any]:
    """{n, failed, hit, mean_km, median_km, geoscore, geoscore_scale_km, format_valid, country_acc,
    region_acc, place_acc, reward_total, reward_<part>}. An answer that cannot be located counts as
    failed and as a miss."""
    located = [
        s.parts["spatial"].details if s.parts["spatial"].kind == "score" else {} for s in scored
    ]
    truth = np.array([(p.truth.lat, p.truth.lon) for p in prompts]).reshape(-1, 2)
    predicted = np.array(
        [(d.get("lat", np.nan), d.get("lon", np.nan)) for d in located], dtype=float
    ).reshape(-1, 2)
    table = score_table(
        truth[:, 0], truth[:, 1], predicted[:, 0], predicted[:, 1], geoscore_scale_km
    )
    named = [s.parts["semantic"].details.get("levels", []) for s in scored]
    for i, level in enumerate(("country", "region", "place")):
        right = [float(rows[i].get("similarity", 0) >= SAME) if rows else 0.0 for rows in named]
        table[f"{level}_acc"] = mean(right)
    table["format_valid"] = mean([s.parts["format"].score or 0.0 for s in scored])
    table["reward_total"] = mean([s.total for s in scored if s.total is not None])
    for part in part_names(name for s in scored for name in s.parts):
        table[f"reward_{part}"] = mean(
            [s.parts[part].score for s in scored if s.parts[part].score is not None]
        )
    return table
