"""A run ends with what was learnt and what to do next; a phase says how long it took."""

import pytest

from geoagent_rl.pages.closing import closing
from geoagent_rl.terminal import phase, progress
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
    for command in ("predict", "monitor", "reward explain"):
        assert f"geoagent-rl {command} {run.path}" in said


def test_a_run_that_only_had_sft_ends_with_its_loss(tmp_path):
    run = new_run(tmp_path)
    run.append("sft_metrics.jsonl", [{"step": i, "loss": 2.0 - i / 10} for i in range(1, 11)])
    said = closing(run.path)
    assert "SFT: loss 1.700 -> 1.200 in 10 steps" in said
    assert "reward" not in said


def test_a_phase_says_that_it_begins_and_how_long_it_took(capsys):
    with phase("loading"):
        assert capsys.readouterr().err == "loading ...\n"
    assert capsys.readouterr().err.startswith("loading: 0.")


def test_a_phase_that_fails_does_not_say_that_it_is_done(capsys):
    with pytest.raises(RuntimeError), phase("loading"):
        raise RuntimeError
    assert "loading: " not in capsys.readouterr().err


def test_progress_in_a_log_is_its_lines_alone(capsys):
    with progress("SFT") as advance:
        advance(1, 2)
        advance(2, 2)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "SFT: 1/2\nSFT: 2/2\n")
