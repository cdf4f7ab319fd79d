"""A run's log holds whole lines of what the run said, from its first to what ended it, and stays
small.
"""

import re

import pytest

from geoagent_rl import terminal
from geoagent_rl.run import log
from geoagent_rl.run.log import last_lines, logged
from geoagent_rl.terminal import phase, say

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


@pytest.fixture(autouse=True)
def nothing_said_before(monkeypatch):
    monkeypatch.setattr(terminal, "_unkept", terminal.deque(maxlen=1000))


def words(run):
    lines = last_lines(run, 1000)
    assert all(re.match(TIME, line) for line in lines)
    return [line[20:] for line in lines]


def test_a_log_begins_with_what_was_said_before_and_a_resumed_run_goes_on_in_it(tmp_path):
    say("run directory: here")
    with logged(tmp_path), phase("loading"):
        pass
    say("between")
    with logged(tmp_path):
        say("learnt: much\nnext: compare")
    say("after")
    begin, seconds, *rest = words(tmp_path)[1:]
    assert words(tmp_path)[0] == "run directory: here" and begin == "loading ..."
    assert seconds.startswith("loading: 0.")
    assert rest == ["between", "learnt: much", "next: compare"]


def test_what_ended_a_run_is_its_last_line(tmp_path):
    with pytest.raises(RuntimeError), logged(tmp_path):
        raise RuntimeError("the engine died")
    with pytest.raises(KeyboardInterrupt), logged(tmp_path):
        raise KeyboardInterrupt
    assert words(tmp_path) == [
        "ended by RuntimeError: the engine died",
        "ended by KeyboardInterrupt",
    ]


def test_a_log_keeps_its_younger_half_in_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "MOST_BYTES", 1000)
    with logged(tmp_path):
        for step in range(500):
            say(f"step {step}/500")
            assert (tmp_path / "log.txt").stat().st_size < 1100
    kept = words(tmp_path)
    assert kept == [f"step {step}/500" for step in range(500 - len(kept), 500)] and len(kept) > 10


def test_the_half_line_of_a_killed_run_is_gone_and_a_full_disk_stops_nothing(tmp_path):
    (tmp_path / "log.txt").write_text("2026-11-27 01:00:00 whole\n2026-11-27 01:00:01 ha")
    with logged(tmp_path):
        say("again")
    assert words(tmp_path) == ["whole", "again"]
    with logged(tmp_path / "no such folder"):
        say("goes on")
