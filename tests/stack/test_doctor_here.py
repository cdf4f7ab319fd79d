"""The environment that set-up made is sound: doctor, for real, finds nothing that fails."""

import json

import pytest

from tests.support import program


@pytest.mark.timeout(290)
def test_doctor_finds_no_failure_in_the_environment_of_the_tests():
    done = program.run("doctor", "--json", timeout=280)
    failed = [one for one in json.loads(done.stdout)["checks"] if one["status"] == "fail"]
    assert done.returncode == 0 and not failed, failed
