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
from geoagent_rl.data.images import open_image
from geoagent_rl.evaluation.predictions import NAMES, from_rows, read_predictions
from geoagent_rl.evaluation.summary import summarise
from geoagent_rl.geo.distance import PAPER_SCALE_KM
from geoagent_rl.geo.lookup import lookup
from geoagent_rl.geo.match import Match
from geoagent_rl.prediction.locator import Locator, newest_policy
from geoagent_rl.rewards.explain import Explanation, checked, explain
from geoagent_rl.rewards.local import LocalPlaces
from geoagent_rl.run.directory import CONFIG, RunDir
from geoagent_rl.run.start import holds_a_run
from geoagent_rl.types import Truth, UserError

__all__ = ["Run", "evaluate", "geocode", "load_config", "predict", "runs", "score"]


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
    reward section and policy.answer count; None: the defaults. No judge is asked, so consistency is
    left out of the totals where a verdict could earn something (rewards/explain.py names the keys
    of a row). Raises UserError for a truth that is none. Works inside a notebook's event loop too.

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
    reward, form = (config or Config()).reward, (config or Config()).policy.answer
    (places,) = LocalPlaces.open(reward)
    with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has an event loop already
        work = explain(lines, reward, places, None, form=form)
        return thread.submit(asyncio.run, work).result()


def evaluate(
    predictions: str | Path | pd.DataFrame,
    manifest: str | Path | None = None,
    answer: str = "",
    by: Sequence[str] = (),
    geoscore_scale_km: float = PAPER_SCALE_KM,
) -> dict[str, Any]:
    """Return hit rates at 1/25/200/750/2500 km, GeoScore, their 95 % intervals and the reasons of
    failures, as `geoagent-rl eval score --json`.

    predictions: a file of any system (docs/evaluation.md), or a table with the columns uid, gt_lat,
    gt_lon, pred_lat, pred_lon. Of a file, manifest adds the truth, and answer names a column of
    texts to geocode in place of a position. by: buckets by locatability, scene, continent, country.
    Raises UserError for what is no such file or table.

    >>> import geoagent_rl as ga, pandas as pd
    >>> columns = ["uid", "gt_lat", "gt_lon", "pred_lat", "pred_lon"]
    >>> rows = [("a", 48.1, 11.6, 48.2, 11.6), ("b", 52.5, 13.4, None, None)]
    >>> table = ga.evaluate(pd.DataFrame(rows, columns=columns))
    >>> table["n"], table["hit"]["25"], table["failures"]
    (2, 0.5, {'no prediction in the file': 1})
    """
    if isinstance(predictions, pd.DataFrame):
        if missing := {"uid", *NAMES} - set(predictions.columns):
            raise UserError(f"the table of predictions lacks {', '.join(sorted(missing))}")
        blank = predictions.astype(object).where(predictions.notna(), None)
        rows = [
            {str(name): value for name, value in row.items()} for row in blank.to_dict("records")
        ]
        found = from_rows("predictions", rows)
    else:
        truth = Path(manifest) if manifest else None
        found = read_predictions(Path(predictions), manifest=truth, answer=answer)
    return summarise(found, geoscore_scale_km, by)


def predict(
    *photographs: str | Path, model: str | Path = "", max_tokens: int = 1024
) -> list[dict[str, Any]]:
    """Return where a policy says that each photograph was taken: {text, problem, stages, answer,
    lat, lon, level, name, admin1, country_code, provider}, as `geoagent-rl predict --json`.

    model: an exported checkpoint or a run directory; "": the newest finished run's policy under
    runs/. It is loaded once for all photographs. max_tokens: of one completion. Raises BadImage (a
    UserError) for a photograph that cannot be read, UserError where there is no such model.

    >>> import geoagent_rl as ga
    >>> (found,) = ga.predict("photo.jpg", model="runs/mine")  # doctest: +SKIP
    >>> found["answer"], found["lat"], found["lon"]  # doctest: +SKIP
    """
    pictures = [open_image(Path(path)) for path in photographs]
    locator = Locator(Path(model) if model else newest_policy(Path("runs")), max_tokens)
    return [locator.locate(picture) for picture in pictures]


@dataclass(frozen=True)
class Run:
    """A run directory (run/directory.py). Tables are read anew each time, so a run that is going on
    can be looked at.
    """

    path: Path

    @property
    def config(self) -> Config:
        """Return the configuration as it ran. Raises UserError where this version does not know
        it."""
        return load_config(self.path / CONFIG)

    @property
    def metrics(self) -> pd.DataFrame:
        """Return metrics.jsonl: a row for each optimizer step (docs/metrics.md); empty before
        one."""
        return pd.DataFrame(RunDir(self.path).rows("metrics.jsonl"))

    @property
    def rollouts(self) -> pd.DataFrame:
        """Return rollouts.jsonl: a row for each scored completion; the score of each part of the
        reward is a column of its name, NaN where it is not known, and `parts` holds all of it."""
        rows = RunDir(self.path).rows("rollouts.jsonl")
        flat = [
            row | {name: part["score"] for name, part in (row.get("parts") or {}).items()}
            for row in rows
        ]
        return pd.DataFrame(flat)

    @property
    def evaluations(self) -> dict[str, Any]:
        """Return eval.json: {stage: {split: figures}}."""
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
