"""`geoagent-rl cluster-demo`, as `make cluster-demo` runs it: scaled, hurt, and no sample lost.

While it trains, every port of its processes is asked by somebody without the token."""

import re

import pytest

from tests.support import program
from tests.support.open_ports import Address, answers, listening

LIMIT_S = 900
MOMENT = "geocoder workers 1 -> 8"  # all of its parts run
REFUSALS = {"401", "403", "404", "405", "UNAUTHENTICATED", "UNIMPLEMENTED", "-NOAUTH"}
COUNTERS = "counters"  # what Ray's exporter answers to anything: numbers for Prometheus


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(run directory, what it printed, {address: {asked: answered}}, its errors, exit code)."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    process = program.start("cluster-demo", "--run-dir", folder)
    said, asked = [], {}
    try:
        for line in process.stdout:
            said.append(line)
            if MOMENT in line:
                asked = {address: answers(address) for address in listening(process.pid)}
        _, errors = process.communicate(timeout=LIMIT_S)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    return folder, "".join(said), asked, errors, process.returncode


@pytest.mark.timeout(LIMIT_S + 60)
def test_the_story_comes_true(told):
    folder, printed, _, errors, code = told
    assert code == 0, printed + errors[-3000:]
    last = printed.strip().splitlines()[-1]
    assert re.match(r"(\d+) of \1 steps, (\d+) of \2 samples, 0 of them unscorable", last), last
    assert (folder / "report.html").exists()


def test_no_port_takes_anything_without_the_token(told):
    asked: dict[Address, dict[str, str]] = told[2]
    open_to_all = {
        address: taken
        for address, found in asked.items()
        if (taken := {q for q in found.items() if q[1] not in {*REFUSALS, COUNTERS}})
    }
    assert not open_to_all
    every = [answer for found in asked.values() for answer in found.values()]
    # so many ask for the token: the dashboard, and each node, worker and head
    assert every.count("401") >= 3 and every.count("UNAUTHENTICATED") >= 8
    assert "-NOAUTH" in every
