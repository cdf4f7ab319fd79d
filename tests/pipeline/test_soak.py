"""The soak itself: a short campaign on the stand-in finds nothing, and a planted fault is found."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.benchmarks.soak_checks import violations
from tests.benchmarks.soak_plan import drawn
from tests.benchmarks.soak_real import KINDS, MOMENTS
from tests.support import soak_stand_in
from tests.support.paths import ROOT

pytestmark = pytest.mark.timeout(240)  # a loaded machine imports for a minute
ROUNDS = 5
COMMAND = [sys.executable, "-m", "tests.benchmarks.soak", "--stand-in", "--seed", "3"]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """(folder, its rows) of a short campaign."""
    into = tmp_path_factory.mktemp("soak")
    words = ["--rounds", str(ROUNDS), "--into", str(into)]
    done = subprocess.run([*COMMAND, *words], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return into, [json.loads(line) for line in (into / "rounds.jsonl").read_text().splitlines()]


def test_faults_at_random_moments_change_nothing(played):
    _, rows = played
    assert [row["problems"] for row in rows] == [[]] * ROUNDS
    assert sum(len(row["struck"]) for row in rows) >= ROUNDS / 2
    assert max(row["lives"] for row in rows) > 1


def test_what_is_lost_repeated_damaged_or_left_is_found(played, tmp_path):
    into, _ = played
    whole = next(into.glob("undisturbed-*"))
    run = tmp_path / "run"
    spoils = {
        "recorded twice": ("rollouts.jsonl", lambda data: data + data.splitlines(True)[-1]),
        "no records": ("metrics.jsonl", lambda data: data[:-1] + b"\0\n"),
        "samples are lost": ("rollouts.jsonl", lambda data: b"".join(data.splitlines(True)[1:])),
        "has the steps": ("metrics.jsonl", lambda data: b"".join(data.splitlines(True)[1:])),
        "other than undisturbed": ("metrics.jsonl", lambda data: data.replace(b"0.5", b"0.6")),
        "other weights": ("policy/model.safetensors", lambda data: data[:-1]),
        "not marked as done": ("done.json", None),
    }
    size = (soak_stand_in.STEPS, soak_stand_in.PROMPTS * soak_stand_in.GROUP)
    assert not list(violations(whole, whole, *size))
    for says, (name, spoil) in spoils.items():
        shutil.copytree(whole, run, symlinks=True)
        if spoil is None:
            (run / name).unlink()
        else:
            (run / name).write_bytes(spoil((run / name).read_bytes()))
        (run / "x.part").touch()
        found = list(violations(run, whole, *size))
        assert any(says in line for line in found), (says, found)
        assert "left behind: x.part" in found
        shutil.rmtree(run)


def test_the_seed_decides_and_every_kind_comes():
    kinds = sorted(KINDS)
    plans = [drawn(7, i, MOMENTS, kinds, 2.5) for i in range(len(kinds))]
    assert plans == [drawn(7, i, MOMENTS, kinds[::-1], 2.5) for i in range(len(kinds))]
    assert {plan.hits[0].kind for plan in plans} == set(kinds)
    assert plans != [drawn(8, i, MOMENTS, kinds, 2.5) for i in range(len(kinds))]
