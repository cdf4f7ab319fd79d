"""A step's metrics reach TensorBoard and, only where asked for, W&B; what a resumed run repeats is
not there twice; a full disk costs the curves there, not the run."""

import functools
import math
import subprocess
import sys
import types
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.jobs.metric_sinks import Tracking
from geoagent_rl.config import Config, load
from geoagent_rl.config import rules as config_rules
from geoagent_rl.types import InfraError, UserError
from tests.support.monitor_runs import group, photograph

FULL = """
import resource, sys, time
from pathlib import Path
from geoagent_rl.config import Config
from geoagent_rl.terminal import errors_in_one_line
from cluster.jobs.metric_sinks import Tracking
with errors_in_one_line():
    tracking = Tracking(Config(), Path(sys.argv[1]), "run")
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
    end = time.monotonic() + 20
    del tracking.trackers["Ray and Prometheus"]
    while tracking.trackers and time.monotonic() < end:
        tracking.write(1, {f"m{i}": 0.0 for i in range(2000)})
    assert not tracking.trackers
    tracking.write(2, {"m": 1.0})
    tracking.close()
"""


FULL_FROM_THE_START = """
import resource, sys
from pathlib import Path
from geoagent_rl.config import Config
from geoagent_rl.terminal import errors_in_one_line
from cluster.jobs.metric_sinks import Tracking
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
with errors_in_one_line():
    tracking = Tracking(Config(), Path(sys.argv[1]), "run")
    assert list(tracking.trackers) == ["Ray and Prometheus"]
    tracking.close()
"""


class StandIn(types.ModuleType):
    """The part of the wandb package that is used; the package itself was tried by hand
    (docs/monitor.md).
    """

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.finished = [], [], 0

    def init(self, **asked):
        if asked["project"] == "refused":
            raise self.Error("api key\nnot configured")
        self.started.append(asked)
        return self

    def log(self, row, step):
        self.logged.append((step, row))

    def Image(self, picture):
        return picture.size

    def Table(self, columns, data):
        return [dict(zip(columns, row, strict=True)) for row in data]

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_resumed_run_has_every_step_once_in_tensorboard(tmp_path):
    first = Tracking(Config(), tmp_path, "id")
    for step in range(1, 6):
        first.write(step, {"kl": step / 8, "reward_total_mean": math.nan})
    first.close()
    resumed = Tracking(Config(), tmp_path, "id", first=3)  # the newest checkpoint is that of step 3
    for step in range(4, 7):
        resumed.write(step, {"kl": step / 4})
    resumed.close()
    assert scalars(tmp_path, "kl") == [
        (1, 0.125),
        (2, 0.25),
        (3, 0.375),
        (4, 1.0),
        (5, 1.25),
        (6, 1.5),
    ]


def test_wandb_gets_the_rows_where_it_is_asked_for(tmp_path, wandb):
    config = Config()
    Tracking(config, tmp_path, "id").close()
    assert not wandb.started
    config.run.wandb = "geo"
    tracking = Tracking(config, tmp_path, "id")
    tracking.write(4, {"kl": 0.5})
    tracking.close()
    (asked,) = wandb.started
    assert (asked["project"], asked["id"], asked["resume"]) == ("geo", "id", "allow")
    assert asked["config"]["learner"]["kl_beta"] == config.learner.kl_beta
    assert wandb.logged == [(4, {"kl": 0.5})] and wandb.finished == 1


def test_wandb_gets_a_table_of_answers_with_photographs(tmp_path, wandb):
    config = Config()
    config.run.wandb, config.run.answers_every = "geo", 3
    tracking = Tracking(config, tmp_path, "id")
    groups = [group(1, place, photograph(tmp_path), "white plates", 0.5) for place in range(2)]
    for step in range(1, 7):
        tracking.write(step, {}, groups)
    tracking.close()
    tables = {step: row["answers"] for step, row in wandb.logged if row}
    assert sorted(tables) == [3, 6] and len(tables[3]) == 2
    assert tables[3][0]["photograph"] == (256, 192) and "spatial" in tables[3][0]


def test_a_wandb_that_does_not_start_is_one_line(tmp_path, wandb):
    config = Config()
    config.run.wandb = "refused"
    with pytest.raises(InfraError, match="api key not configured"):
        Tracking(config, tmp_path, "id")


def test_a_wandb_that_does_not_start_again_stops_no_run_that_goes_on(tmp_path, wandb, capsys):
    config = Config()
    config.run.wandb = "refused"
    tracking = Tracking(config, tmp_path, "id", first=2, goes_on=True)
    tracking.write(3, {"kl": 0.5})
    tracking.close()
    assert "no metrics for Weights & Biases" in capsys.readouterr().err
    assert scalars(tmp_path, "kl") == [(3, 0.5)]


def test_wandb_without_the_package_is_refused_before_anything_starts(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()  # what an offline W&B run leaves is no package
    only_here = functools.partial(PathFinder.find_spec, path=[str(tmp_path)])
    monkeypatch.setattr(config_rules, "find_spec", only_here)
    with pytest.raises(UserError, match="pip install wandb"):
        load(None, ["data.manifest=x", "run.wandb=geo"])


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (FULL, "no more metrics for TensorBoard"),
        (FULL_FROM_THE_START, "no metrics for TensorBoard"),
    ],
)
def test_a_full_disk_is_said_and_survived(tmp_path, program, said):
    """The limit on the size of a file stands in for the disk: real, and any user may set it."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_tracker_that_fails_stops_nothing(tmp_path, wandb, capsys):
    config = Config()
    config.run.wandb = "geo"
    wandb.log = wandb.finish = lambda *_, **__: 1 / 0
    tracking = Tracking(config, tmp_path, "id")
    for step in (1, 2):
        tracking.write(step, {"kl": 0.5})
    tracking.close()
    said = capsys.readouterr().err
    assert said.count("no more metrics for Weights & Biases") == 1 and "did not end well" in said
    assert scalars(tmp_path, "kl") == [(1, 0.5), (2, 0.5)]


def test_a_run_may_have_any_name(tmp_path, capsys):
    """Ray refuses tags that are not ASCII, at the first step."""
    folder = tmp_path / "東京-Łódź"
    folder.mkdir()
    tracking = Tracking(Config(), folder, "id")
    tracking.write(1, {"kl": 0.5})
    tracking.close()
    assert capsys.readouterr().err == "" and tracking.run.isascii()
