"""`reward explain` and `reward compare` without a cluster: gazetteer, encoder and, if asked for,
the judge's engine in this process."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from actors.chunking import Chunker
from geoagent_rl import config as configuration
from geoagent_rl.config import Config
from geoagent_rl.config.services import CascadeConfig, JudgeConfig, JudgeEndpointConfig
from geoagent_rl.geo.match import Match
from geoagent_rl.rewards import encoder
from geoagent_rl.rewards.explain import Explanation, Line, explain, read_lines
from geoagent_rl.rewards.local import LocalPlaces
from geoagent_rl.rewards.services import Address, JudgeAgent, LevelPair, Similarity
from geoagent_rl.terminal import progress, say

NONE, CONFIGURED = "none", "config"
LONG = 500  # lines; with more of them the command shows how far it is


def explain_files(
    file: Path, paths: Sequence[Path | None], overrides: list[str], judge: str = NONE
) -> list[list[Explanation]]:
    """Return the rows of geoagent_rl.rewards.explain for each configuration (None: the defaults),
    of the same completions.

    judge: "none", "config" (the judge of the first configuration) or a model. Raises UserError
    for a bad line or setting, before anything is loaded."""
    lines = read_lines(file)
    configs = [load(path, overrides) for path in paths]
    for config in configs:
        encoder.check(config.reward.encoder.model)
        if config.reward.geocoder.provider != "gazetteer":
            say(f"geocoding with the offline gazetteer, not with {config.reward.geocoder.provider}")
    with stdout_kept_clean():
        return asyncio.run(_explain_all(lines, configs, judge))


def load(path: Path | None, overrides: list[str]) -> Config:
    """Return a configuration of which only the rewards matter: it need not name training data."""
    return configuration.load(path, [*overrides, "data.manifest=scenes"])


async def _explain_all(
    lines: Sequence[Line], configs: Sequence[Config], judge: str
) -> list[list[Explanation]]:
    places = [Together(local) for local in LocalPlaces.open(*(config.reward for config in configs))]
    agent = chosen_judge(judge, configs[0].judge)

    async def one(config: Config, places: Together) -> list[Explanation]:
        with progress("completions") if len(lines) >= LONG else nullcontext(_silent) as advance:
            form = config.policy.answer
            return await explain(lines, config.reward, places, agent, advance, form)

    try:
        return [await one(c, p) for c, p in zip(configs, places, strict=True)]
    finally:
        if agent is not None:
            agent.stop()


@contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Send what engines and their processes print to standard error: standard output is for
    the result alone.
    """
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def chosen_judge(name: str, config: JudgeConfig) -> JudgeAgent | None:
    """Start the judge here, its engine where it has one; None where none is asked for."""
    if name == NONE:
        return None
    from actors.judge_worker import start_judge

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if name != CONFIGURED:
        config = dataclasses.replace(
            config, model=name, endpoint=JudgeEndpointConfig(), cascade=CascadeConfig()
        )
    return start_judge(config)


class Together:
    """LocalPlaces whose encoder sees the names of all completions under way at once: 16 cost it as
    much as one.
    """

    def __init__(self, places: LocalPlaces):
        self.places = places
        self._pairs = Chunker(places.similarities, max_chunk=256, linger_s=0.0)

    async def geocode(self, addresses: Sequence[Address]) -> list[Match | None]:
        """Geocode at once: the gazetteer is quick."""
        return await self.places.geocode(addresses)

    async def similarities(self, pairs: Sequence[LevelPair]) -> list[Similarity]:
        """Compare names together with those of other completions."""
        return await self._pairs.ask(pairs)

    async def same_place(self, pairs: Sequence[LevelPair]) -> list[bool]:
        """Say of each pair whether both names mean one place."""
        return await self.places.same_place(pairs)


def _silent(done: int, total: int) -> None:
    pass
