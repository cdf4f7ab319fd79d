"""`geoagent-rl ablate`: what is planned, and the real thing: stopped, continued, finished, never
run twice.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from cluster.jobs import ablate_job, ablate_rows
from cluster.jobs.ablate import Job, Jobs, plan, settle
from cluster.local_nodes import local_cluster
from cluster.running import AUTH
from cluster.submit import client
from geoagent_rl.config import load
from geoagent_rl.evaluation.ablations import read_rows
from geoagent_rl.types import InfraError, UserError
from tests.support import program
from tests.support.paths import ROOT
from tests.support.tiny_random import build

ROWS = read_rows(ROOT / "configs" / "ablations")
SMALL = ["rollout.prompts_per_step=2", "rollout.group_size=2", "rollout.max_tokens=12", "scenes.train=8",
         "scenes.heldout=4", "scenes.sft=8", "sft.epochs=1", "sft.batch_size=8", "steps=3"]  # fmt: skip
LIMIT_S = 400


def some(*names):
    return [row for row in ROWS if row.name in names]


def test_one_job_does_all_rows_of_a_seed_and_more_jobs_share_them_after_the_cold_start():
    rows, none = some("base", "sft", "wo-con", "full"), lambda name, seed: False
    everything = ("base", "sft", "wo-con", "full")
    assert plan(rows, [0, 1], 1, none) == [[Job(0, everything), Job(1, everything)]]
    assert plan(rows, [0, 1], 3, none) == [[Job(0, everything), Job(1, everything)]]
    first, second = plan(rows, [0], 2, none)
    assert first == [Job(0, ("sft",))] and second == [Job(0, ("base", "full")), Job(0, ("wo-con",))]


def test_finished_rows_are_not_planned_again():
    rows = some("sft", "full")
    assert plan(rows, [0, 1], 1, lambda name, seed: (name, seed) != ("full", 1)) == [
        [Job(1, ("full",))]
    ]
    assert plan(rows, [0, 1], 4, lambda name, seed: True) == []


def test_a_directory_belongs_to_one_set_of_settings_and_collects_rows(tmp_path):
    config = load(ROOT / "configs" / "local.yaml")
    assert [row.name for row in settle(config, some("full"), tmp_path)] == ["full"]
    assert [row.name for row in settle(config, some("sft"), tmp_path)] == ["sft", "full"]
    older = [line for line in (tmp_path / "config.yaml").open() if "geoscore_scale_km" not in line]
    (tmp_path / "config.yaml").write_text(
        "".join(older)
    )  # as of a version that did not know the key
    assert settle(config, some("sft"), tmp_path)
    with pytest.raises(UserError, match="other settings .steps: 60 -> 7"):
        settle(load(ROOT / "configs" / "local.yaml", ["steps=7"]), some("full"), tmp_path)
    changed = [dataclasses.replace(row, overrides={"learner.lr": 1.0}) for row in some("full")]
    with pytest.raises(UserError, match="other overrides"):
        settle(config, changed, tmp_path)


def test_a_cold_start_is_kept_when_the_job_is_stopped_before_its_row_begins(tmp_path, monkeypatch):
    settle(load(ROOT / "configs" / "local.yaml"), some("sft", "full"), tmp_path)
    policy = tmp_path / "seed-0" / "sft" / "policy"

    async def learnt(s, run, base, shown, out):
        (out / "config.json").write_text("{}")

    def stopped(job, rows):
        asyncio.run(job.cold_start(SimpleNamespace(config=job.config), policy, "base", []))
        raise KeyboardInterrupt

    monkeypatch.setattr(ablate_rows, "cold_start", learnt)
    monkeypatch.setattr(ablate_rows._Job, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        ablate_rows.run_rows(tmp_path, 0, ["sft", "full"])
    assert (policy / "config.json").exists() and not (tmp_path / "seed-0" / "full").exists()


def test_a_job_that_is_stopped_while_its_libraries_load_ends_without_a_trace(monkeypatch):
    class Stopped:
        def find_spec(self, name, *_):
            if name == ablate_rows.__name__:
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, ablate_rows.__name__)
    monkeypatch.setattr(sys, "meta_path", [Stopped(), *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["ablate_job", "out", "0", "sft"])
    with pytest.raises(SystemExit) as ended:
        ablate_job.main()
    assert ended.value.code == 130


def ablate(*words: str, **variables: str) -> subprocess.Popen:
    return program.start("ablate", *words, env=program.environment(**variables))


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_stopped_ablation_goes_on_and_a_finished_row_is_not_run_again(judge, tmp_path):
    base, out = build(tmp_path / "base", hidden=128), tmp_path / "out"
    words = ["--out", str(out), "--recipes", "gre", "--seeds", "3", f"policy.model={base}", *SMALL]
    words += judge
    process, said = ablate(*words), []
    for line in process.stderr:
        said.append(line)
        if line.startswith("step 1/"):  # of the recipe
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130 and "Traceback" not in errors, "".join(said) + errors
    made = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("seed-3/*/row.json")}
    assert set(made) == {"sft-lat_lon"}
    assert "| SFT, lat_lon | 1 |" in (out / "ablation.md").read_text()

    process = ablate(*words)
    printed, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    assert "GRE Suite, stage II (lat_lon) (continues)" in errors and "SFT: " not in errors
    assert {name: (out / "seed-3" / name / "row.json").stat().st_mtime_ns for name in made} == made
    run = out / "seed-3" / "gre"
    rollouts = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rollouts] == [step for step in range(1, 4) for _ in range(4)]
    assert all(r["parts"].keys() == {"spatial", "format"} for r in rollouts)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scales = [row["scheduled_spatial_tau_km"] for row in metrics]
    assert scales == pytest.approx([1000, 200 * 5**0.5, 200])  # GRE's, within these three steps
    assert (run / "policy" / "config.json").exists() and (run / "report.html").exists()
    assert printed.count("| 1 |") == 2 and "<svg" in (out / "ablation.html").read_text()

    process = ablate(*words)  # everything is finished: no Ray, no engine, only the table
    again, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and again == printed and errors == ""


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_row_runs_to_its_end_as_a_ray_job_and_a_job_that_fails_shows(judge, tmp_path, capsys):
    base, out = build(tmp_path / "base", hidden=128), tmp_path / "out"
    words = ["--out", str(out), "--rows", "sft", "--seeds", "0", f"policy.model={base}", *SMALL]
    words += judge
    with local_cluster(8, dashboard=True) as cluster:
        token = {name: os.environ[name] for name in AUTH}
        process = ablate("--address", cluster.dashboard, *words, **token)
        printed, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0 and "Traceback" not in errors, errors
        (job,) = client(cluster.dashboard).list_jobs()
        assert job.status == "SUCCEEDED" and "cluster.jobs.ablate_job" in job.entrypoint
        run = out / "seed-0" / "sft"
        assert (
            json.loads((run / "eval.json").read_text()).keys() == {"sft"}
            and (run / "report.html").exists()
        )
        assert printed.count("| 1 |") == 1 and "<svg" in (out / "ablation.html").read_text()

        (out / "rows.json").unlink()
        with pytest.raises(InfraError, match="ended with status FAILED"):
            Jobs(out, cluster.dashboard).run([Job(0, ("sft",))], 1, lambda: None)
    assert "rows.json" in capsys.readouterr().err  # the job's own last words


def test_an_address_without_a_cluster_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no job server at http://127.0.0.1:9"):
        Jobs(tmp_path, "http://127.0.0.1:9").run([Job(0, ("sft",))], 1, lambda: None)
