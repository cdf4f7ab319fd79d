"""`import geoagent_rl as ga` is light, and its documented examples hold."""

import asyncio
import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import geoagent_rl
import geoagent_rl as ga
from cluster.cli.local import app
from geoagent_rl import api
from geoagent_rl.types import Truth, UserError
from tests.support import tiny_random
from tests.support.monitor_runs import new_run, photograph, record
from tests.support.paths import ROOT

HEAVY = ("pandas", "torch", "transformers", "omegaconf", "pydantic", "numpy")
MUNICH = Truth("Germany", "Bavaria", "Munich", 48.137, 11.575)
EXAMPLES = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with two runs, one inside an ablation's folder."""
    for name in ("first", "rows/second"):
        run = new_run(tmp_path, name)
        record(run, photograph(tmp_path / "photos"), range(1, 4))
    tiny_random.build(tmp_path / "runs" / "first" / "policy")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_import_loads_nothing_heavy():
    script = f"import geoagent_rl, sys; print(set({HEAVY}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_every_name_that_is_offered_is_there():
    assert set(ga.__all__) == set(api.__all__) and set(ga.__all__) <= set(dir(ga))
    assert all(getattr(ga, name) is getattr(api, name) for name in ga.__all__)
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = ga.scores


def test_the_examples_of_the_docstrings_hold():
    result = doctest.testmod(api)
    assert result.attempted >= 6 and result.failed == 0


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_examples_of_the_page_run(code, folder, capsys):
    exec(code, {})
    assert capsys.readouterr().out


def test_runs_are_found_below_a_folder_and_are_what_they_recorded(folder):
    found = ga.runs()
    assert {run.path.name for run in found} == {"first", "second"}
    (one,) = ga.runs(folder / "runs" / "first")
    assert list(one.metrics.step) == [1, 2, 3]
    assert len(one.rollouts) == 3 * 2 * 4
    part = [row["spatial"]["score"] for row in one.rollouts.parts]
    assert list(one.rollouts.spatial) == part
    assert one.config.data.manifest == str(folder / "photos")


def test_a_run_that_has_only_begun_has_empty_tables(tmp_path):
    run = ga.Run(new_run(tmp_path).path)
    assert run.metrics.empty and run.rollouts.empty and run.evaluations == {}


POSITIONS = ["policy.answer=lat_lon", "reward.weights.consistency=0"]


async def test_completions_are_scored_inside_a_running_event_loop():
    assert asyncio.get_running_loop()
    (row,) = ga.score(["<answer>Germany; Bavaria; Munich</answer>"], [MUNICH])
    assert row["parts"]["semantic"]["score"] == 1.0
    form = ga.load_config(None, ["data.manifest=x", *POSITIONS])
    (row,) = ga.score(["<answer>48.137, 11.575</answer>"], [MUNICH], form)
    assert row["parts"]["spatial"]["score"] > 0.99


def test_a_file_and_a_table_are_evaluated_as_the_command_does(tmp_path):
    table = pd.DataFrame(
        {"uid": ["a", "b"], "gt_lat": [48.1, 52.5], "gt_lon": [11.6, 13.4],
         "pred_lat": [48.2, None], "pred_lon": [11.6, None]}
    )  # fmt: skip
    table.to_csv(tmp_path / "predictions.csv", index=False)
    found = ga.evaluate(tmp_path / "predictions.csv")
    assert found == ga.evaluate(table) and found["hit"]["25"] == 0.5 and found["n"] == 2
    done = CliRunner().invoke(app, ["eval", "score", str(tmp_path / "predictions.csv"), "--json"])
    assert json.loads(done.stdout) == found


def test_the_function_is_never_shadowed_by_a_room_of_the_package():
    """`import geoagent_rl.NAME` would put a module in its place."""
    rooms = {path.stem for path in Path(geoagent_rl.__file__).parent.iterdir()}
    assert not rooms & set(ga.__all__)


def test_what_cannot_be_scored_is_named():
    with pytest.raises(UserError, match="completion 1 cannot be scored: truth.lat"):
        ga.score(["Munich"], [{"country": "Germany", "lat": 948.0, "lon": 11.0}])
    with pytest.raises(UserError, match="lacks pred_lat, pred_lon, uid"):
        ga.evaluate(pd.DataFrame({"gt_lat": [1.0], "gt_lon": [1.0]}))
    with pytest.raises(UserError, match="no folder"):
        ga.runs("nowhere")
