"""The scripts for a GPU (tests/gpu) run small on a CPU, so that a rare GPU finds them working."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SMALL = ("--shape", "tiny", "--device", "cpu", "--commit", "abc1234")

pytestmark = pytest.mark.timeout(240)


def results(script: str, out: Path, *more: str) -> list[dict]:
    """Run a script to its end; return the rows that it wrote."""
    command = [sys.executable, "-m", f"tests.gpu.{script}", *SMALL, "--out", str(out), *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=220
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = [json.loads(line) for line in (out / f"{script}.jsonl").read_text().splitlines()]
    assert not [row for row in rows if row.get("failed")]
    assert rows[0]["section"] == "set-up" and rows[0]["case"] == "CPU"
    assert rows[0]["commit"] == "abc1234" and rows[0]["versions"]["torch"]
    return rows


def test_the_engine_cycle_swaps_what_the_learner_learnt(tmp_path):
    sizes = ("--rounds", "2", "--prompts", "2", "--group", "4", "--tokens", "24", "--pixels", "112")
    rows = results("engine_cycle", tmp_path, "--only", "engine,cycle,precision,refused", *sizes)
    rounds = [row for row in rows if row["section"] == "cycle"]
    assert [row["version"] for row in rounds] == [1, 2]
    for row in rounds:
        assert row["agree"]["mean"] < 0.1 * row["stale"]["mean"]
        assert row["probe_gap"] < 0.1 * row["learner_moved"]
    assert all(row["refused"] for row in rows if row["section"] == "refused")
    assert sum(row["section"] in ("precision", "refused") for row in rows) == 3


def test_the_learner_bench_measures_every_section(tmp_path):
    rows = results("learner_bench", tmp_path)
    sections = {row["section"] for row in rows}
    assert sections >= {"ceilings", "micro", "host", "vision", "logits", "lora", "attention"}
    (trl,) = (row for row in rows if row["section"] == "trl")
    assert trl["cosine"] > 0.999  # both compute the gradient of the same loss
    (zero,) = (row for row in rows if row["case"] == "ZeRO 0")
    assert zero["applied"]


def test_the_judge_answers_as_meant(tmp_path):
    rows = results("judge", tmp_path)
    (row,) = (row for row in rows if row["section"] == "judge")
    assert row["of"] == 10 and row["right"] >= 9


@pytest.mark.parametrize("script", ["engine_cycle", "learner_bench", "judge"])
def test_without_a_gpu_a_script_says_that_it_skips(script, monkeypatch, capsys):
    import importlib

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.syspath_prepend(str(ROOT))
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"tests.gpu.{script}").main([])
    assert end.value.code == 0 and "skipped: no CUDA GPU" in capsys.readouterr().out
