"""What `import geoagent_rl as ga` offers in a notebook or script: configurations, rewards, places
and recorded runs. Needs no cluster.

Names load when they are first used, so the import itself is light."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from geoagent_rl.config import Config
from geoagent_rl.config import load as load_config
from geoagent_rl.geo.lookup import lookup
from geoagent_rl.geo.match import Match
from geoagent_rl.rewards.explain import Explanation, checked, explain
from geoagent_rl.rewards.local import LocalPlaces
from geoagent_rl.run.directory import CONFIG, RunDir
from geoagent_rl.run.start import holds_a_run
from geoagent_rl.types import Truth, UserError

__all__ = ["Run", "geocode", "load_config", "runs", "score"]


def geocode(*addresses: str, provider: str = "gazetteer") -> list[Match | None]:
    """Return where each address lies, None for one that is no known place.

    addresses: "Country; Region; Place", or one name. provider: as of `geoagent-rl geocode`; the
    gazetteer is offline. Raises UserError for a provider that is not set up, InfraError when it
    fails.

    >>> import geoagent_rl as ga
    >>> munich, nowhere = ga.geocode("Germany; Bavaria; Munich", "Xyzzyland")
    >>> munich.name, round(munich.lat, 1), round(munich.lon, 1), nowhere
    ('Munich', 48.1, 11.6, None)
    """
    return list(lookup(addresses, provider))


def score(
    completions: Sequence[str],
    truths: Sequence[Truth | Mapping[str, Any]],
    config: Config | None = None,
) -> list[Explanation]:
    """Return for each completion its total reward and how each part came about.

    truths: {country, region, place, lat, lon} of the photograph of each completion. config: its
    reward section counts; None: the defaults. No judge is asked, so consistency is left out of the
    totals where a verdict could earn something (rewards/explain.py names the keys of a row).
    Raises UserError for a truth that is none. Works inside a notebook's event loop too.

    >>> import geoagent_rl as ga
    >>> munich = {"country": "Germany", "region": "Bavaria", "place": "Munich",
    ...           "lat": 48.137, "lon": 11.575}
    >>> right, wrong = ga.score(
    ...     ["<answer>Germany; Bavaria; Munich</answer>", "<answer>France</answer>"], [munich] * 2)
    >>> right["parts"]["semantic"]["score"], right["total"] > wrong["total"]
    (1.0, True)
    """
    lines = []
    for number, (text, truth) in enumerate(zip(completions, truths, strict=True), 1):
        of = asdict(truth) if isinstance(truth, Truth) else dict(truth)
        try:
            lines.append(checked(number, {"completion": text, "truth": of}))
        except ValueError as error:
            raise UserError(f"completion {number} cannot be scored: {error}") from None
    reward = (config or Config()).reward
    (places,) = LocalPlaces.open(reward)
    with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has an event loop already
        return thread.submit(asyncio.run, explain(lines, reward, places, None)).result()


@dataclass(frozen=True)
class Run:
    """A run directory (run/directory.py). Tables are read anew each time, so a run that is going on
    can be looked at.
    """

    path: Path

    @property
    def config(self) -> Config:
        """The configuration as it ran. Raises UserError where this version does not know it."""
        return load_config(self.path / CONFIG)

    @property
    def metrics(self) -> pd.DataFrame:
        """metrics.jsonl: a row for each optimizer step (docs/metrics.md); empty before one."""
        return pd.DataFrame(RunDir(self.path).rows("metrics.jsonl"))

    @property
    def rollouts(self) -> pd.DataFrame:
        """rollouts.jsonl: a row for each scored completion; the score of each part of the reward is
        a column of its name, NaN where it is not known, and `parts` holds all of it.
        """
        rows = RunDir(self.path).rows("rollouts.jsonl")
        flat = [
            row | {name: part["score"] for name, part in (row.get("parts") or {}).items()}
            for row in rows
        ]
        return pd.DataFrame(flat)

    @property
    def evaluations(self) -> dict[str, Any]:
        """eval.json: {stage: {split: figures}}."""
        return RunDir(self.path).evaluations()


def runs(folder: str | Path = "runs") -> list[Run]:
    """Return the runs below a folder, or the one that it holds itself, the newest first.

    Raises UserError where there is no such folder.

    >>> import geoagent_rl as ga
    >>> newest = ga.runs("runs")[0]  # doctest: +SKIP
    >>> newest.metrics.plot("step", "reward_total_mean")  # doctest: +SKIP
    >>> newest.rollouts.groupby("uid").total.std()  # doctest: +SKIP
    """
    if not Path(folder).is_dir():
        raise UserError(f"no folder {folder}; give a run directory or the folder of your runs")
    found = []
    for place, inner, _ in os.walk(folder):
        if holds_a_run(Path(place)):
            found.append(Run(Path(place)))
            inner.clear()  # what lies in a run is its own
    return sorted(found, key=lambda run: -(run.path / CONFIG).stat().st_mtime)
