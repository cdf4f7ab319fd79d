"""A run ends with what was learnt and what to do next."""

import pytest

from geoagent_rl.pages.closing import closing
from tests.support.monitor_runs import new_run, photograph, record


@pytest.fixture
def run(tmp_path):
    run = new_run(tmp_path)
    record(run, photograph(tmp_path / "photos"), range(1, 21))
    return run


def test_the_change_of_the_reward_is_that_of_the_metrics(run):
    totals = [row["reward_total_mean"] for row in run.rows("metrics.jsonl")]
    first, last = sum(totals[:5]) / 5, sum(totals[-5:]) / 5
    said = closing(run.path)
    assert f"training reward {first:.3f} -> {last:.3f} in 20 steps" in said
    assert "spatial" in said and "consistency" in said


def test_held_out_figures_are_named_or_said_to_be_missing(run):
    assert "not evaluated (data.eval_manifest)" in closing(run.path)
    run.record_eval("sft", "heldout", {"n": 64, "reward_total": 1.0, "country_acc": 0.25})
    run.record_eval("grpo", "heldout", {"n": 64, "reward_total": 1.5, "country_acc": 0.5})
    said = closing(run.path)
    assert "64 held-out photographs" in said
    assert "reward 1.000 -> 1.500, country right 0.250 -> 0.500" in said


def test_the_next_commands_are_of_this_run(run):
    said = closing(run.path)
    for command in ("predict PHOTO --model", "monitor", "reward explain"):
        assert f"geoagent-rl {command} {run.path}" in said


def test_a_run_that_only_had_sft_ends_with_its_loss(tmp_path):
    run = new_run(tmp_path)
    run.append("sft_metrics.jsonl", [{"step": i, "loss": 2.0 - i / 10} for i in range(1, 11)])
    said = closing(run.path)
    assert "SFT: loss 1.700 -> 1.200 in 10 steps" in said
    assert "reward" not in said
