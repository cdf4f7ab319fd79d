"""The environment that set-up made is sound: doctor, for real, finds nothing that fails."""

import json
import subprocess
import sys

import pytest


@pytest.mark.timeout(290)
def test_doctor_finds_no_failure_in_the_environment_of_the_tests():
    code = "import sys; from geoagent_rl import doctor; sys.exit(doctor.run(as_json=True))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280)
    failed = [one for one in json.loads(done.stdout)["checks"] if one["status"] == "fail"]
    assert done.returncode == 0 and not failed, failed
