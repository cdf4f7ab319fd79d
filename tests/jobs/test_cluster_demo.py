"""`geoagent-rl cluster-demo`, as `make cluster-demo` runs it: scaled, hurt, and no sample lost."""

import re

import pytest

from tests.support import program

LIMIT_S = 900


@pytest.mark.timeout(LIMIT_S + 60)
def test_the_story_comes_true(tmp_path):
    done = program.run("cluster-demo", "--run-dir", tmp_path / "run", timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    last = done.stdout.strip().splitlines()[-1]
    assert re.match(r"(\d+) of \1 steps, (\d+) of \2 samples, 0 of them unscorable", last), last
    assert (tmp_path / "run" / "report.html").exists()
