"""Prediction files of any system: uid, true position, predicted position, and whatever else they
say about each row.

`eval run` writes such files (JSONL); CSV, TSV and Parquet of other systems are read too. Where a
file has no truth, or no names, scores and classes, a manifest with the same uids adds them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoagent_rl.data.columns import find_column, is_missing
from geoagent_rl.data.tables import whole_rows
from geoagent_rl.evaluation.answers import positions
from geoagent_rl.evaluation.metrics import on_earth, score_table
from geoagent_rl.geo.coordinates import read_degrees
from geoagent_rl.geo.distance import PAPER_SCALE_KM, distances_km
from geoagent_rl.geo.suspect import suspicions
from geoagent_rl.terminal import say
from geoagent_rl.types import UserError

NAMES = ("gt_lat", "gt_lon", "pred_lat", "pred_lon")
# Folded names, see data/columns.py. Bare ones are the truth's, or where that has names of its own
# the prediction's.
CALLED = {
    "gt_lat": ("gtlat", "truelat", "gtlatitude", "latgt", "truelatitude", "lat", "latitude"),
    "gt_lon": (
        *("gtlon", "gtlng", "truelon", "truelng", "gtlongitude", "longt", "truelongitude"),
        *("lon", "lng", "long", "longitude"),
    ),
    "pred_lat": (
        *("predlat", "predictedlat", "predlatitude", "latpred", "predictedlatitude"),
        *("lat", "latitude"),
    ),
    "pred_lon": (
        *("predlon", "predlng", "predictedlon", "predlongitude", "lonpred", "predictedlongitude"),
        *("predictedlng", "lngpred", "lon", "lng", "long", "longitude"),
    ),
}
UID = ("uid", "id", "key", "key_sha1_12", "image_id", "IMG_ID", "image")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
FROM_MANIFEST = ("country", "region", "place", "locatability", "scene")


@dataclass(frozen=True)
class Predictions:
    """n rows of one system. `truth` and `predicted`: (n, 2) degrees, NaN where there is no usable
    prediction.
    """

    name: str
    uids: list[str]
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]
    columns: Mapping[str, list[Any]]  # others, by name; None where blank

    @property
    def located(self) -> NDArray[np.bool_]:
        """Return which rows have a usable position."""
        return on_earth(self.predicted)

    @property
    def km(self) -> NDArray[np.float64]:
        """Return distances; infinite where there is no usable prediction."""
        km = distances_km(self.truth, self.predicted)
        return np.where(self.located, km, np.inf)

    def table(self, geoscore_scale_km: float = PAPER_SCALE_KM) -> dict[str, Any]:
        """Return the system's figures: hits, mean and median distance, GeoScore."""
        (lat, lon), (predicted_lat, predicted_lon) = self.truth.T, self.predicted.T
        return score_table(lat, lon, predicted_lat, predicted_lon, geoscore_scale_km)

    def subset(self, rows: NDArray[np.int64]) -> Predictions:
        """Return the predictions of some rows."""
        others = {name: [values[i] for i in rows] for name, values in self.columns.items()}
        return Predictions(
            self.name, [self.uids[i] for i in rows], self.truth[rows], self.predicted[rows], others
        )


def from_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> Predictions:
    """Return the rows that locate.locate gave, one per photograph."""

    def points(lat: str, lon: str) -> NDArray[np.float64]:
        found = [(row.get(lat), row.get(lon)) for row in rows]
        return np.array(found, dtype=np.float64).reshape(-1, 2)  # None becomes NaN

    others = dict.fromkeys(key for row in rows for key in row if key not in (*NAMES, "uid"))
    return Predictions(
        name,
        [row["uid"] for row in rows],
        points(*NAMES[:2]),
        points(*NAMES[2:]),
        {key: [row.get(key) for row in rows] for key in others},
    )


def read_predictions(
    path: Path,
    names: tuple[str, ...] = NAMES,
    manifest: Path | None = None,
    called: str = "",
    answer: str = "",
) -> Predictions:
    """Read a prediction file. `names`: the columns of the true and predicted latitudes and
    longitudes; where the usual ones are not there, what else people call them. `answer`: a column
    of texts that are geocoded instead of a predicted position. Raises UserError, also for positions
    in radians.

    Warns on standard error when coordinates look swapped.
    """
    rows = _rows(path)
    there = list(dict.fromkeys(name for row in rows for name in row))
    if answer and answer not in there:
        raise UserError(f"{path} has no column {answer!r}; its columns are: {', '.join(there)}")
    names = _called(names, there, guess_truth=manifest is None)
    uid = next((name for name in UID if name in there), None)
    known = _of_manifest(manifest) if manifest else {}
    if known and uid is None:
        raise UserError(
            f"{path} has no column uid, so --manifest cannot be joined; it has {', '.join(there)}"
        )
    uids = _uids(path, rows, uid, manifest, known)
    columns = {
        name: [_cell(row.get(name)) for row in rows] for name in there if name not in (*names, uid)
    }
    if known:
        for name in FROM_MANIFEST:
            columns[name] = [getattr(known[u], name) for u in uids]
    truth = (
        np.array([(known[u].lat, known[u].lon) for u in uids])
        if known
        else _points(path, rows, there, names[:2])
    )
    predicted = (
        positions([row.get(answer) for row in rows])
        if answer
        else _points(path, rows, there, names[2:])
    )
    if answer and "failure" not in columns:
        nowhere = "the answer names no known place"
        columns["failure"] = [nowhere if np.isnan(point).any() else None for point in predicted]
    _suspect(f"{path}: true positions ({names[0]}, {names[1]})", truth)
    _suspect(f"{path}: predicted positions ({names[2]}, {names[3]})", predicted)
    found = Predictions(called or path.stem, uids, truth, predicted, columns)
    try:
        found.table()  # refuses a truth that is not on Earth
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return found


def _uids(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    column: str | None,
    manifest: Path | None,
    known: Mapping[str, Any],
) -> list[str]:
    """Return what names the rows, each once: their uids, or their numbers where there are none."""
    if column is None:
        return [str(i) for i in range(1, len(rows) + 1)]
    uids = [str(row.get(column)) for row in rows]
    if known:  # files of `predict` name photographs by path
        uids = [u if u in known else Path(u).stem for u in uids]
    if len(set(uids)) < len(uids):
        twice = next(u for i, u in enumerate(uids) if u in set(uids[:i]))
        raise UserError(f"{path}: uid {twice} appears twice; keep one row per photograph")
    strangers = [u for u in uids if known and u not in known]
    if strangers:
        raise UserError(
            f"{path}: {len(strangers)} uids are not in {manifest} (first: {strangers[0]})"
        )
    return uids


def _called(names: tuple[str, ...], there: Sequence[str], guess_truth: bool) -> tuple[str, ...]:
    """`names`, the usual ones that are not there replaced by what else people call them."""
    free = [name for name in there if name not in names]
    guessed = []
    for name in names:
        truth = name in NAMES[:2]
        found = ""
        if name not in there and name in CALLED and (guess_truth or not truth):
            found = find_column(free, CALLED[name])
        free = [other for other in free if other != found]
        guessed.append(found or name)
    if guessed != list(names):
        say(f"positions are read from {', '.join(name for name in guessed if name in there)}")
    return tuple(guessed)


def _points(
    path: Path, rows: Sequence[Mapping[str, Any]], there: Sequence[str], names: Sequence[str]
) -> NDArray[np.float64]:
    """Return the positions in two columns, shape (n, 2). Raises UserError without such columns."""
    for name in names:
        if name not in there:
            raise UserError(f"{path} has no column {name!r}; its columns are: {', '.join(there)}")
    axes = [
        [_degrees(row.get(name), axis) for row in rows]
        for name, axis in zip(names, ("lat", "lon"), strict=True)
    ]
    return np.array(axes, dtype=np.float64).T


def _suspect(where: str, points: NDArray[np.float64]) -> None:
    """Warn of what is probably wrong with a column. Raises UserError for radians."""
    for suspicion in suspicions(*points.T):
        if "radians" in suspicion:
            raise UserError(f"{where}: {suspicion}; convert them to degrees")
        print(f"warning: {where}: {suspicion}", file=sys.stderr)


def _degrees(value: Any, axis: str) -> float:
    """Read a cell as degrees; NaN where it is none, which counts as no usable prediction."""
    degrees = None if is_missing(value) else read_degrees(value, axis)
    return np.nan if degrees is None else degrees


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: predictions must be a {', '.join(SUFFIXES)} file")
    if not path.exists():
        raise UserError(f"no prediction file {path}")
    rows = [values for _, values in whole_rows(path)]
    if not rows:
        raise UserError(f"{path} has no rows")
    return rows


def _cell(value: Any) -> Any:
    """None for what is blank."""
    return None if value == "" or value != value else value


def _of_manifest(path: Path) -> dict[str, Any]:
    """{uid: row} of a manifest; its photographs need not be there, for nothing looks at them."""
    from geoagent_rl.data.manifest import load

    return {sample.uid: sample for sample in load(path, max_image_megapixels=None).samples}
