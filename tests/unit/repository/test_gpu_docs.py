"""docs/gpu.md and plan's constants are what the committed measurements say."""

from __future__ import annotations

import json

import pytest

from geoagent_rl.plan.gpus import GPUS, SHEETS, gpu
from geoagent_rl.plan.measured import FILE, measured_rates, read
from geoagent_rl.plan.rates import Rates, table
from geoagent_rl.types import UserError
from tests.gpu.calibration import Compared, engine_compared, learner_compared
from tests.gpu.report import of_script, page
from tests.support.paths import ROOT

DATA = ROOT / "docs" / "gpu.jsonl"
MEMORY, TIME = 0.2, 0.3  # by how much a plan may be off a card that it is calibrated by


@pytest.fixture(scope="module")
def runs():
    return read(DATA)


def test_the_page_is_made_from_the_data(runs):
    assert (ROOT / "docs" / "gpu.md").read_text() == page(runs)


def test_the_plans_constants_are_made_from_the_data(runs):
    assert json.loads(FILE.read_text()) == measured_rates(runs, SHEETS)


def compared(runs) -> list[Compared]:
    cycles = [row for run in of_script(runs, "engine_cycle") for row in engine_compared(run)]
    return cycles + [r for run in of_script(runs, "learner_bench") for r in learner_compared(run)]


def test_a_plan_agrees_with_everything_that_was_measured(runs):
    rows = [row for row in compared(runs) if not row.unusual]
    assert {row.unit for row in rows} == {"s", "GiB", ""} and len(rows) > 20
    for row in rows:
        limit = TIME if row.unit == "s" else MEMORY
        assert row.planned == pytest.approx(row.measured, rel=limit), row.what


def test_the_page_has_the_cases_that_plan_does_not_mean_with_the_reason(runs):
    shown = page(runs)
    unusual = [row for row in compared(runs) if row.unusual]
    assert unusual and all(row.what in shown and row.unusual in shown for row in unusual)


def test_a_card_without_measurements_has_the_estimates():
    assert gpu("A40").rates == Rates() and gpu("H100").rates.source
    assert all(0 < gpu(name).rates.learn < 1 for name in GPUS)


def test_another_file_replaces_the_constants_and_must_be_of_the_card(runs, tmp_path):
    slower = tmp_path / "slower.jsonl"
    rows = [json.loads(line) for line in DATA.read_text().splitlines()]
    for row in rows:
        if row["section"] == "ceilings":
            row["copy_TB_s"] /= 2
    slower.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert gpu("H100", slower).rates.read == pytest.approx(gpu("H100").rates.read / 2, rel=0.01)
    with pytest.raises(UserError, match="measurements of H100, not of placement.gpu=A40"):
        gpu("A40", slower)
    slower.write_text("not rows\n")
    with pytest.raises(UserError, match="not a file of GPU measurements"):
        gpu("H100", slower)


def test_the_page_on_plans_has_the_constants():
    assert table(gpu("H100").rates) in (ROOT / "docs" / "plan.md").read_text()


def test_a_card_that_plan_does_not_know_has_a_page_without_a_plan_beside(runs):
    strange = [[run[0] | {"case": "NVIDIA X1"}, *run[1:]] for run in runs]
    shown = page(strange)
    assert "NVIDIA X1" in shown and "against `plan`" not in shown
