"""`make audit`: published vulnerabilities of every pin, by pip-audit, where a network allows.

Exit code 1 when there are some. Says when nobody could be asked: then it has looked at nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.paths import ROOT

PINS = ("constraints.txt", "constraints-cpu.txt", "constraints-gpu.txt")
LIMIT_S = 900.0


def pins() -> str:
    """Return every pin, a line each."""
    lines = {line for name in PINS for line in (ROOT / name).read_text().splitlines()}
    return "\n".join(sorted(line for line in lines if "==" in line and line[0] != "#")) + "\n"


def main(folder: str) -> None:
    """folder: where pip-audit was installed."""
    with tempfile.TemporaryDirectory() as place:
        asked, answer = Path(place, "pins.txt"), Path(place, "answer.json")
        asked.write_text(pins())
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-r", asked]
        command += ["--vulnerability-service", "osv", "-f", "json", "-o", answer]
        env = os.environ | {"PYTHONPATH": folder}
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=env)
        if not answer.exists():
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            print(f"audit: nothing was looked at: pip-audit could not ask: {said[-1][:300]}")
            return
        found = [d for d in json.loads(answer.read_text())["dependencies"] if d.get("vulns")]
    for one in found:
        print(f"{one['name']} {one['version']}: {', '.join(v['id'] for v in one['vulns'])}")
    print(f"audit: {len(found)} of the pins have published vulnerabilities")
    sys.exit(bool(found))


if __name__ == "__main__":
    main(sys.argv[1])
