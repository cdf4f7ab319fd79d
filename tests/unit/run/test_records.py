"""Files of JSON lines: damage is skipped and counted, cutting back costs what is cut off."""

import json
import subprocess
import sys

import pytest

from geoagent_rl.run import records

NUL = b"\0" * 300 + b"\n"
DAMAGE = (NUL, b"[1, 2]\n", b"\xff\xfe\n", b"not json\n", b'{"step": 2, "text": "\n', b"\n")


def line(step, text=""):
    return json.dumps({"step": step, "text": text}).encode() + b"\n"


@pytest.mark.parametrize("bad", DAMAGE)
def test_a_damaged_line_is_skipped_and_counted(tmp_path, caplog, bad):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line(1) + bad + line(2) + b'{"step": 3, "lo')
    assert [row["step"] for row in records.read_rows(path)] == [1, 2]
    assert ("1 lines are no records" in caplog.text) == (bad != b"\n")
    assert records.last_row(path)["step"] == 2


def test_what_is_not_there_has_no_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert list(records.read_rows(path)) == [] and records.last_row(path) == {}
    records.cut_after(path, 3)
    assert records.end_of_step(path, 3) == (0, 0) and not path.exists()


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("step", [0, 1, 2, 3, 9])
def test_cutting_keeps_whole_steps_whatever_is_read_at_once(tmp_path, monkeypatch, block, step):
    """A damaged line among what is kept stays; one at the end goes."""
    monkeypatch.setattr(records, "BLOCK", block)
    kept = {0: b"", 1: line(1) * 2, 2: line(1) * 2 + NUL + line(2, "x" * 900)}
    everything = kept[2] + line(3) * 3
    path = tmp_path / "rollouts.jsonl"
    path.write_bytes(everything + NUL + b'{"step": 4')
    assert records.end_of_step(path, step)[1] == min(step, 3)
    records.cut_after(path, step)
    assert path.read_bytes() == kept.get(step, everything)


LONG = """
import resource, sys, time
from pathlib import Path
from geoagent_rl.run import records
path, before = Path(sys.argv[1]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
records.cut_after(path, int(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_cutting_a_long_file_reads_only_what_is_cut_off(tmp_path):
    """A sparse file of 8 GB in front: who read it would not be done before the test's limit."""
    path = tmp_path / "rollouts.jsonl"
    with path.open("wb") as file:
        file.truncate(8 << 30)
        file.seek(0, 2)
        file.write(b"\n" + line(7, "kept") + line(8, "x" * 1000) * 2000)
    end = path.stat().st_size - 2000 * len(line(8, "x" * 1000))
    words = [sys.executable, "-c", LONG, str(path), "7"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=25, check=True)
    assert path.stat().st_size == end and float(done.stdout) < 50  # MiB
    assert records.last_row(path)["text"] == "kept"
