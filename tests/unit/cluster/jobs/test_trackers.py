"""MLflow and trackio themselves, as set-up installs them apart (tests/trackers.txt): metrics with
their steps, a table of answers with photographs, one run over two lives. And what W&B is given."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.jobs.trackers import ROWS, SIDE, answers_of
from geoagent_rl.types import Group, Prompt
from tests.support.monitor_runs import TRUTH, group, photograph
from tests.support.paths import ROOT

PACKAGES = Path(sys.prefix) / "trackers"
LIVES = """
import json, math, sys
from pathlib import Path
from cluster.jobs.metric_sinks import Tracking
from geoagent_rl.config import Config
from tests.support.monitor_runs import group

config, folder, image = Config(), Path(sys.argv[1]), Path(sys.argv[2])
config.run.mlflow = config.run.trackio = "geo"
config.run.answers_every = 2
groups = [group(1, place, image, "white plates", 0.5) for place in range(2)]
for first in (0, 2):  # the second life goes on
    tracking = Tracking(config, folder, "run-id", first)
    for step in (first + 1, first + 2):
        tracking.write(step, {"kl": step / 8, "validation_reward": math.nan}, groups)
    tracking.close()
    assert len(tracking.trackers) == 4, tracking.trackers

import mlflow
from trackio.sqlite_storage import SQLiteStorage
client = mlflow.MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("geo").experiment_id])
(record,) = SQLiteStorage.get_run_records("geo")
logs = SQLiteStorage.get_logs("geo", record["name"], run_id=record["id"])
mlflow.set_experiment("geo")
table = mlflow.load_table("answers.json", run_ids=[run.info.run_id])
Path(sys.argv[1], "kept.json").write_text(json.dumps({
    "status": run.info.status,
    "mlflow": [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "kl")],
    "answers": table.drop(columns="photograph").to_dict("records"),
    "pictures": [a.path for a in client.list_artifacts(run.info.run_id, "tables")],
    "trackio": [(row["step"], row["kl"]) for row in logs if "kl" in row],
    "tables": [row["answers"] for row in logs if "answers" in row],
}, default=str))
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> dict:
    """What the trackers hold after two lives of a run."""
    folder = tmp_path_factory.mktemp("tracked")
    stores = {"MLFLOW_TRACKING_URI": f"file://{folder}/mlflow", "TRACKIO_DIR": f"{folder}/trackio"}
    # Without a database package, which mlflow-skinny does not bring, MLflow asks for this.
    env = os.environ | stores | {"MLFLOW_ALLOW_FILE_STORE": "true"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(PACKAGES)])
    assert PACKAGES.is_dir(), "make setup installs tests/trackers.txt there"
    command = [sys.executable, "-c", LIVES, str(folder), str(photograph(folder / "photos"))]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    return {"folder": folder, **json.loads((folder / "kept.json").read_text())}


@pytest.mark.timeout(120)
def test_one_run_of_mlflow_has_every_step_of_both_lives(kept):
    assert kept["mlflow"] == [[1, 0.125], [2, 0.25], [3, 0.375], [4, 0.5]]
    assert kept["status"] == "FINISHED"


def test_mlflow_has_the_answers_with_their_parts(kept):
    assert [row["step"] for row in kept["answers"]] == [2, 2, 4, 4]
    first = kept["answers"][0]
    assert first["truth"] == "; ".join(TRUTH.levels) and "white plates" in first["text"]
    assert {"uid", "reward", "spatial", "semantic", "consistency", "format"} < set(first)
    assert list((kept["folder"] / "mlflow").rglob("*.png"))


@pytest.mark.timeout(120)
def test_one_run_of_trackio_has_every_step_and_the_answers(kept):
    assert kept["trackio"] == [[1, 0.125], [2, 0.25], [3, 0.375], [4, 0.5]]
    assert len(kept["tables"]) == 2 and "white plates" in json.dumps(kept["tables"])
    assert list((kept["folder"] / "trackio").rglob("*.png"))


def test_a_table_has_a_small_picture_of_each_photograph_that_can_be_opened(tmp_path):
    image = photograph(tmp_path)
    lost = Group(
        Prompt("gone", str(tmp_path / "gone.jpg"), TRUTH), group(1, 0, image, "", 0.5).samples, ()
    )
    dropped = Group(Prompt("dropped", str(image), TRUTH), (), ())
    found = answers_of([lost, dropped, *(group(1, i, image, "", 0.5) for i in range(2 * ROWS))])
    assert [answer.cells["uid"] for answer in found] == [f"photo-{i}" for i in range(ROWS)]
    assert all(max(answer.photograph.size) == SIDE for answer in found)
    assert all(not math.isnan(answer.cells["reward"]) for answer in found)
