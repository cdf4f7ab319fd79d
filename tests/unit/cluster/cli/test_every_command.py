"""Every command is run for real by a test: the quick ones here, in one folder; of the others this
table says which test runs them. A new command without a test fails here."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest
import typer

from cluster.cli.main import app, main
from geoagent_rl.tiny.scenes import make
from tests.support.monitor_runs import new_run, photograph, record
from tests.support.paths import CONFIGS, ROOT, TEST_DATA

QUICK = [
    "data scenes more --n 2",
    "data validate scenes/manifest.parquet",
    "data show scenes/manifest.parquet",
    "data cot-check scenes/manifest.parquet --json",
    "data export scenes swift.jsonl",
    "data import scenes/manifest.parquet scenes/again.jsonl",
    "data sample pool.csv --n 20 --out sample.csv",
    "data audit scenes",
    "data contamination pool.csv pool.csv",
    "data locatability scenes/manifest.parquet scenes/scored.jsonl --scores scores.csv",
    "eval score predictions.csv --html score.html",
    "eval compare predictions.csv twice=predictions.csv",
    "eval published im2gps3k",
    "geocode Germany;Bavaria;Munich --json",
    "plan --config configs/paper.yaml",
    "config schema",
    "recipes",
    "report runs/run",
    "compare runs/run runs/run",
    "reward explain few.jsonl",
    "reward reweigh runs/run spatial=1",
    "reward compare few.jsonl --config configs/local.yaml --config configs/local.yaml",
]
ELSEWHERE = {
    "doctor": "stack/test_doctor_here.py::test_doctor_finds_no_failure_in_the_environment_of_the_tests",
    "demo": "jobs/test_main_job.py::test_the_demo_ends_with_the_table_and_a_report",
    "tiny-policy": "jobs/test_main_job.py::test_the_tiny_base_is_found_and_not_trained_again",
    "sft": "jobs/test_main_job.py::test_the_cold_start_alone_writes_a_policy",
    "train": "jobs/test_jobs.py::"
    "test_a_run_is_scaled_and_looked_at_ctrl_c_saves_and_leaves_no_process_and_resume_goes_on",
    "scale": "jobs/test_jobs.py::"
    "test_a_run_is_scaled_and_looked_at_ctrl_c_saves_and_leaves_no_process_and_resume_goes_on",
    "status": "jobs/test_jobs.py::"
    "test_a_run_is_scaled_and_looked_at_ctrl_c_saves_and_leaves_no_process_and_resume_goes_on",
    "submit": "stack/test_cluster.py::test_submit_follows_a_job_and_says_how_it_ended",
    "jobs list": "stack/test_cluster.py::"
    "test_a_submitted_job_is_stopped_with_a_checkpoint_and_leaves_nothing",
    "jobs stop": "stack/test_cluster.py::"
    "test_a_submitted_job_is_stopped_with_a_checkpoint_and_leaves_nothing",
    "jobs follow": "stack/test_cluster.py::test_submit_follows_a_job_and_says_how_it_ended",
    "cluster-demo": "jobs/test_cluster_demo.py::test_the_story_comes_true",
    "ablate": "jobs/test_ablate.py::"
    "test_a_stopped_ablation_goes_on_and_a_finished_row_is_not_run_again",
    "eval run": "jobs/test_eval_run.py::"
    "test_evaluation_with_the_judge_and_going_on_where_it_stopped",
    "predict": "unit/prediction/test_predict.py::"
    "test_the_command_line_locates_a_folder_with_a_real_checkpoint",
    "judge distil": "unit/rewards/test_distil.py::"
    "test_the_command_writes_a_judge_that_answers_and_says_what_it_is_worth",
    "export": "unit/policy/test_export.py::"
    "test_the_exported_checkpoint_gives_the_same_answers_in_plain_transformers",
    "monitor": "stack/test_stop_signal.py::test_a_stopped_server_exits_with_130",
    "serve-model": "stack/test_stop_signal.py::test_a_stopped_server_exits_with_130",
}


def commands(command=None, name: str = "") -> Iterator[str]:
    """The full names of all commands."""
    command = command or typer.main.get_command(app)
    for word, found in getattr(command, "commands", {}).items():
        yield from commands(found, f"{name} {word}".strip())
    if name and not hasattr(command, "commands"):
        yield name


def command_of(line: str) -> str:
    return max((name for name in commands() if f"{line} ".startswith(f"{name} ")), key=len)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the quick commands read."""
    folder = tmp_path_factory.mktemp("commands")
    make(folder / "scenes", 8, 0, "train", with_cot=True)
    rows = range(40)
    pool = {"id": rows, "lat": [48.0 + i / 40 for i in rows], "lon": [11.5] * 40, "country": "DE"}
    pandas.DataFrame(pool).to_csv(folder / "pool.csv", index=False)
    found = {
        "uid": rows,
        "lat": pool["lat"],
        "lon": 11.5,
        "gt_lat": pool["lat"],
        "gt_lon": 11.5,
        "pred_lat": 48.1,
        "pred_lon": 11.6,
    }
    pandas.DataFrame(found).to_csv(folder / "predictions.csv", index=False)
    uids = [f"train-0-{i:06d}" for i in range(8)]
    pandas.DataFrame({"uid": uids, "locatability": 5}).to_csv(folder / "scores.csv", index=False)
    (folder / "configs").symlink_to(CONFIGS)
    run = new_run(folder)
    record(run, photograph(folder / "photos"), range(1, 4))
    lines = (TEST_DATA / "tricky_completions.jsonl").read_text(encoding="utf-8").splitlines(True)
    (folder / "few.jsonl").write_text("".join(lines[:3]), encoding="utf-8")
    return folder


def test_no_command_is_without_a_test():
    assert sorted([*map(command_of, QUICK), *ELSEWHERE]) == sorted(commands())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("line", QUICK, ids=[command_of(line) for line in QUICK])
def test_it_runs(line, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["geoagent-rl", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    allowed = (0, 1) if "cot-check" in line else (0, None)  # 1: it found a fault
    assert ended.value.code in allowed, capsys.readouterr().err
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", ELSEWHERE)
def test_the_named_test_exists_and_its_file_holds_the_commands_words(command):
    file, test = ELSEWHERE[command].split("::")
    nodes = list(ast.walk(ast.parse((ROOT / "tests" / file).read_text())))
    assert test in {getattr(node, "name", "") for node in nodes}
    said = {node.value for node in nodes if isinstance(node, ast.Constant)}
    assert said >= set(command.split())
