"""What a long command says while it runs: what begins, that it goes on, how long it took."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from geoagent_rl import terminal
from geoagent_rl.terminal import moving, phase, progress, say

TERMINAL = os.environ | {"TERM": "xterm", "COLUMNS": "100"}


@pytest.fixture
def quick(monkeypatch):
    """Lines that are due a hundred times as often."""
    monkeypatch.setattr(terminal, "SILENT_S", terminal.SILENT_S / 100)


def said_until(capsys, pattern: str) -> str:
    """Standard error until it matches, which the test's time limit bounds."""
    said = ""
    while not re.search(pattern, said):
        said += capsys.readouterr().err
        time.sleep(0.01)
    return said


def test_a_phase_says_that_it_begins_and_how_long_it_took(capsys):
    with phase("loading"):
        assert capsys.readouterr().err == "loading ...\n"
    assert capsys.readouterr().err.startswith("loading: 0.")


def test_a_phase_that_fails_does_not_say_that_it_is_done(capsys):
    with pytest.raises(RuntimeError), phase("loading"):
        raise RuntimeError
    assert "loading: " not in capsys.readouterr().err


def test_progress_in_a_log_is_its_lines_alone_and_quick_tenths_are_not_said(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "APART_S", 0.0)
    with progress("SFT") as advance:
        advance(1, 2)
        advance(2, 2)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "SFT: 1/2\nSFT: 2/2\n")
    monkeypatch.setattr(terminal, "APART_S", 3600.0)
    with progress("evaluation") as advance:
        for done in range(33):
            advance(done, 32)
    assert capsys.readouterr().err == "evaluation: 32/32\n"


def test_a_long_phase_is_never_silent_in_a_log(quick, capsys):
    with phase("loading"):
        said_until(capsys, r"(loading: \d+ s so far\n.*){3}")
    assert re.fullmatch(r"(loading: \d+ s so far\n)*loading: \d+\.\d s\n", capsys.readouterr().err)


def test_long_progress_moves_between_its_tenths(quick, capsys):
    with progress("SFT") as advance:
        advance(1, 100)
        said_until(capsys, r"SFT: 1/100: \d+ s so far")


def test_between_two_phases_a_log_is_never_silent_and_in_one_the_phase_speaks(quick, capsys):
    with moving(lambda: "working"):
        said_until(capsys, r"working: \d+ s so far")
        with phase("loading"):
            assert "working" not in said_until(capsys, r"(loading: \d+ s so far\n.*){2}")
        said_until(capsys, r"working: 0 s so far")  # counted from the phase's end


def test_the_silence_before_a_bar_counts(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "SILENT_S", 3600)
    with moving(lambda: "working"):
        terminal._said_at[0] -= 2 * 3600
        with progress("SFT"):
            said_until(capsys, r"SFT: 0 s so far")


def test_nothing_is_said_twice_where_something_was_said(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "SILENT_S", 3600)
    with progress("GRPO", tenths=False) as advance:
        for step in range(10):
            advance(step, 10)
            say(f"step {step}")
    assert capsys.readouterr().err == "".join(f"step {step}\n" for step in range(10))


def test_in_a_terminal_a_clock_runs_and_lines_stay_above_it():
    """A real terminal, of this process' own: what it was sent is looked at."""
    script = (
        "import time\n"
        "from geoagent_rl import terminal\n"
        "from geoagent_rl.terminal import phase, progress, say\n"
        "terminal.SILENT_S = 0.1\n"
        "with phase('loading'):\n    time.sleep(1.3)\n"
        "with progress('GRPO') as advance:\n    advance(3, 4)\n    say('step 3')\n    time.sleep(0.2)\n"
    )
    master, slave = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", script], stderr=slave, env=TERMINAL) as process:
        os.close(slave)
        sent = b""
        with contextlib.suppress(OSError):  # the terminal's other end is closed
            while data := os.read(master, 65536):
                sent += data
        assert process.wait(30) == 0
    os.close(master)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sent.decode())
    assert "0:00:01" in shown and "so far" not in shown
    assert re.search(r"loading: \d\.\d s", shown) and "3/4" in shown
    assert re.search(r"[\r\n]step 3\r?\n", shown)  # a line of its own


def test_a_quick_command_says_nothing(capsys):
    with moving(lambda: "comparing"):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


STUCK_PROGRAM = """
import atexit, sys, threading
from geoagent_rl.terminal import STUCK, errors_in_one_line
atexit.register(print, "the interpreter's own end")
if sys.argv[1:]:
    threading.Thread(target=threading.Event().wait, name=STUCK + "x", daemon=True).start()
with errors_in_one_line():
    raise OSError(2, "gone") if "error" in sys.argv else SystemExit("error: gone")
"""


@pytest.mark.parametrize("words", [[], ["stuck"], ["stuck", "error"]])
def test_a_process_ends_alike_beside_a_stuck_thread(words):
    command = [sys.executable, "-c", STUCK_PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("error: gone")
    assert ("own end" in done.stdout) == (not words)


STOPPED_PROGRAM = """
import pathlib, sys, time
from geoagent_rl.files import file_at_once
from geoagent_rl.terminal import errors_in_one_line
with errors_in_one_line(), file_at_once(pathlib.Path(sys.argv[1])) as part:
    part.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_command_leaves_nothing_half_and_says_nothing(tmp_path, number):
    command = [sys.executable, "-c", STOPPED_PROGRAM, str(tmp_path / "file")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130 and not list(tmp_path.iterdir())
