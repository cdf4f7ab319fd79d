"""docs/gpu.md and plan's constants are what the committed measurements say."""

from __future__ import annotations

import json

import pytest

from geoagent_rl.plan.gpus import GPUS, gpu
from geoagent_rl.plan.measured import FILE, Shares
from tests.gpu.calibration import engine_compared, learner_compared, packed, with_adapter
from tests.gpu.report import all_constants, of_script, page, read
from tests.support.paths import ROOT

DATA = ROOT / "docs" / "gpu.jsonl"
MEMORY, TIME = 0.2, 0.3  # by how much a plan may be off a card that it is calibrated by


@pytest.fixture(scope="module")
def runs():
    return read(DATA)


def test_the_page_is_made_from_the_data(runs):
    assert (ROOT / "docs" / "gpu.md").read_text() == page(runs)


def test_the_plans_constants_are_made_from_the_data(runs):
    assert json.loads(FILE.read_text()) == all_constants(runs)


def test_a_plan_agrees_with_what_was_measured(runs):
    cycles = [run for run in of_script(runs, "engine_cycle") if with_adapter(run)]
    learners = [run for run in of_script(runs, "learner_bench") if packed(run)]
    rows = engine_compared(cycles[-1]) + learner_compared(learners[-1])
    for what, measured, planned, unit in rows:
        limit = TIME if unit == "s" else MEMORY
        assert planned == pytest.approx(measured, rel=limit), what


def test_a_card_without_measurements_has_the_estimates():
    assert gpu("A40").shares == Shares() and gpu("H100").shares.source
    assert all(0 < gpu(name).shares.learn < 1 for name in GPUS)
