"""The experiment trackers that a run may be asked to report to: Weights & Biases, MLflow, trackio.
None is a dependency; each gets the metrics, and now and then a table of answers with photographs.

Keys and addresses are the tracker's own matter: its environment variables or its login."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from geoagent_rl.config import Config
from geoagent_rl.config.describe import flat
from geoagent_rl.data.images import BadImage, open_image
from geoagent_rl.terminal import say
from geoagent_rl.types import Group, InfraError

SIDE = 256  # pixels, at most, of a photograph in a table
ROWS = 8  # answers in a table, each of another photograph


@dataclass(frozen=True)
class Answer:
    """One row of a table of answers: a small photograph, where it was taken, what was said of it,
    the reward's parts and total (None where it could not be scored).
    """

    photograph: Image.Image
    cells: Mapping[str, str | float | None]


class Tracker(Protocol):
    """What gets a run's metrics. Its methods raise whatever the tracker's library raises."""

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Take the metrics of a step."""

    def show(self, step: int, answers: Sequence[Answer]) -> None:
        """Take a table of answers of a step."""

    def finish(self) -> None:
        """Hand over what is not yet there, and end."""


def answers_of(groups: Sequence[Group]) -> list[Answer]:
    """Return the first answer to each of the first ROWS photographs that can be opened."""
    found: list[Answer] = []
    for group in groups:
        if len(found) == ROWS or not group.samples:
            continue
        try:
            photograph = open_image(group.prompt.image)
        except BadImage:
            continue
        photograph.thumbnail((SIDE, SIDE))
        sample = group.samples[0]
        cells = {
            "uid": group.prompt.uid,
            "truth": "; ".join(level or "" for level in group.prompt.truth.levels),
            "text": sample.rollout.text,
            "reward": sample.total,
            **{name: outcome.score for name, outcome in sample.parts.items()},
        }
        found.append(Answer(photograph, cells))
    return found


class WandB:
    """A Weights & Biases run, continued when this run is resumed."""

    def __init__(self, config: Config, run_dir: Path, run_id: str) -> None:
        self.library = importlib.import_module("wandb")
        self.run = self.library.init(
            project=config.run.wandb,
            name=run_dir.name,
            id=run_id,
            resume="allow",
            dir=str(run_dir),
            config=dataclasses.asdict(config),
        )

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Log the metrics."""
        self.run.log(dict(row), step=step)

    def show(self, step: int, answers: Sequence[Answer]) -> None:
        """Log a table with pictures."""
        columns = ["photograph", *answers[0].cells]
        rows = [[self.library.Image(a.photograph), *a.cells.values()] for a in answers]
        self.run.log({"answers": self.library.Table(columns=columns, data=rows)}, step=step)

    def finish(self) -> None:
        """End the run, which waits for its upload."""
        self.run.finish()


class MLflow:
    """An MLflow run under MLFLOW_TRACKING_URI, found again by its tag when this run is resumed."""

    def __init__(self, config: Config, run_dir: Path, run_id: str) -> None:
        self.library = importlib.import_module("mlflow")
        self.client = self.library.MlflowClient()
        known = self.client.get_experiment_by_name(config.run.mlflow)
        experiment = (
            known.experiment_id if known else self.client.create_experiment(config.run.mlflow)
        )
        before = self.client.search_runs([experiment], f"tags.geoagent_run = '{run_id}'")
        if before:
            self.run = before[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
            return
        made = self.client.create_run(
            experiment, tags={"geoagent_run": run_id}, run_name=run_dir.name
        )
        self.run = made.info.run_id
        self.client.log_dict(self.run, flat(dataclasses.asdict(config)), "config.json")

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Log the metrics in one request."""
        now = int(time.time() * 1000)
        metrics = [self.library.entities.Metric(k, float(v), now, step) for k, v in row.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def show(self, step: int, answers: Sequence[Answer]) -> None:
        """Log a table with pictures, one for all steps."""
        pictures = [self.library.Image(answer.photograph) for answer in answers]
        table: dict[str, list[Any]] = {"step": [step] * len(answers), "photograph": pictures}
        for name in answers[0].cells:
            table[name] = [answer.cells.get(name) for answer in answers]
        self.client.log_table(self.run, table, "answers.json")

    def finish(self) -> None:
        """Say that the run has ended."""
        self.client.set_terminated(self.run)


class Trackio:
    """A trackio run, in this machine's own store (TRACKIO_DIR) unless trackio is told otherwise."""

    def __init__(self, config: Config, run_dir: Path, run_id: str) -> None:
        self.library = importlib.import_module("trackio")
        self.run = self.library.init(
            project=config.run.trackio,
            name=f"{run_dir.name}-{run_id}",
            resume="allow",
            config=flat(dataclasses.asdict(config)),
            auto_log_gpu=False,
            auto_log_cpu=False,
            embed=False,
        )

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Log the metrics."""
        self.run.log(dict(row), step=step)

    def show(self, step: int, answers: Sequence[Answer]) -> None:
        """Log a table with pictures."""
        pandas = importlib.import_module("pandas")
        rows = [
            {"photograph": self.library.Image(answer.photograph), **answer.cells}
            for answer in answers
        ]
        table = self.library.Table(dataframe=pandas.DataFrame(rows))
        self.run.log({"answers": table}, step=step)

    def finish(self) -> None:
        """Write what waits."""
        self.run.finish()


def asked_for(config: Config, run_dir: Path, run_id: str, must: bool = True) -> dict[str, Tracker]:
    """Start the trackers that the configuration names; geoagent_rl/config/rules.py has looked
    whether their packages are there. Raises InfraError for one that does not start; unless it
    `must`, that is a warning.
    """
    started: dict[str, Tracker] = {}
    with contextlib.ExitStack() as undo:
        for name, asked, make in (
            ("Weights & Biases", config.run.wandb, WandB),
            ("MLflow", config.run.mlflow, MLflow),
            ("trackio", config.run.trackio, Trackio),
        ):
            if not asked:
                continue
            try:
                with starting(name):
                    started[name] = make(config, run_dir, run_id)
                undo.callback(started[name].finish)
            except InfraError as error:
                if must:
                    raise
                say(f"WARNING: no metrics for {name}: {error}")
        undo.pop_all()
    return started


@contextlib.contextmanager
def starting(name: str) -> Iterator[None]:
    """Make whatever a tracker raises an InfraError of one line."""
    try:
        yield
    except Exception as error:  # failure taxonomy: each library has exceptions of its own
        said = " ".join(str(error).split())[:300]
        raise InfraError(f"{name} did not start: {said}") from error
