"""`eval run` as users start it, on real Ray and vLLM: a prediction file that the other commands
read, and going on.

The policy is the untrained tiny one (made here once; later tests find it in the cache): its answers
are poor, which is what an evaluation must bear."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from geoagent_rl.tiny.scenes import make
from tests.support import program

LIMIT_S = 900


def geoagent(*words: object) -> subprocess.CompletedProcess[str]:
    return program.run(*words, timeout=LIMIT_S)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("scenes"), 10, 3, "heldout", with_cot=False)


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.timeout(LIMIT_S + 60)
def test_evaluation_with_the_judge_and_going_on_where_it_stopped(scenes, judge, tmp_path):
    words = [
        "eval",
        "run",
        "--manifest",
        scenes,
        "policy.model=tiny-base",
        f"run.dir={tmp_path / 'run'}",
        "--json",
        *judge,
    ]
    done = geoagent(*words, "eval.samples=10")
    assert done.returncode == 0, done.stderr[-3000:]
    table = json.loads(done.stdout)
    assert (table["n"], table["unanswered"]) == (10, 0) and sum(
        table["failures"].values()
    ) == table["failed"]
    first = rows(tmp_path / "run")
    assert len({row["uid"] for row in first}) == 10
    assert all(row["pred_lat"] is None or row["level"] for row in first) and all(
        "reward_consistency" in r for r in first
    )
    again = geoagent(*words, "eval.samples=10")
    assert "10 done before" in again.stderr and json.loads(again.stdout) == table
    assert rows(tmp_path / "run") == first
    scored = geoagent(
        "eval", "score", tmp_path / "run/predictions.jsonl", "--by", "country", "--json"
    )
    assert json.loads(scored.stdout)["hit"] == table["hit"]


@pytest.mark.timeout(LIMIT_S + 60)
def test_engines_alone_with_a_consensus_of_several_completions(scenes, tmp_path):
    options = [
        "eval.samples=4",
        "eval.completions=4",
        "eval.temperature=1.0",
        f"run.dir={tmp_path / 'run'}",
    ]
    done = geoagent(
        "eval", "run", "--manifest", scenes, "--no-judge", "policy.model=tiny-base", *options
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "4 predictions" in done.stdout and str(tmp_path / "run/predictions.jsonl") in done.stdout
    found = rows(tmp_path / "run")
    assert [row["completions"] for row in found] == [4] * 4
    assert all(row["located"] == 0 or row["pred_lat"] is not None for row in found)
    assert all("reward_consistency" not in row and "right_country" in row for row in found)
