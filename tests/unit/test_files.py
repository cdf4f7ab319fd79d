"""A file or directory that is written is whole or absent, also after a failure and after a kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geoagent_rl import files

HALF = """
import os, signal, sys
from pathlib import Path
from geoagent_rl import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as part:
    (part if sys.argv[1] == "file_at_once" else part / "a.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    file = tmp_path / "a.json"
    for value in ({"höhe": 1}, {"höhe": 2}):
        files.write_json(file, value, durable=True)
        assert json.loads(file.read_text(encoding="utf-8")) == value
    assert names(tmp_path) == ["a.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(OSError, match="full"), files.file_at_once(file) as part:
        part.write_text("half")
        raise OSError("full")
    assert file.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_failed_directory_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    with files.directory_at_once(tmp_path / "d") as part:
        (part / "a.txt").write_text("old")
    with pytest.raises(OSError, match="full"), files.directory_at_once(tmp_path / "d") as part:
        (part / "a.txt").write_text("half")
        raise OSError("full")
    assert (tmp_path / "d" / "a.txt").read_text() == "old" and names(tmp_path) == ["d"]


def test_a_directory_is_removed_by_its_name_first(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").touch()
    seen = []
    monkeypatch.setattr(files.shutil, "rmtree", lambda path, **_: seen.append(names(tmp_path)))
    files.remove_at_once(tmp_path / "d")
    (left,) = seen[0]
    assert left.startswith("d.") and left.endswith(files.UNFINISHED)


@pytest.mark.parametrize("way", ["file_at_once", "directory_at_once"])
def test_a_kill_leaves_no_half_and_its_remains_can_be_swept(tmp_path, way):
    target = tmp_path / "target"
    done = subprocess.run([sys.executable, "-c", HALF, way, str(target)], timeout=60)
    assert done.returncode == -9 and not target.exists()
    (left,) = tmp_path.iterdir()
    other = tmp_path / "target2.0123.part"  # of another file
    other.write_text("")
    files.sweep(target)
    assert not left.exists() and other.exists()


def test_two_writers_of_one_file_never_mix(tmp_path):
    file = tmp_path / "a.txt"
    with files.file_at_once(file) as first:
        first.write_text("first")
        with files.file_at_once(file) as second:
            second.write_text("2")
        assert file.read_text() == "2"
    assert file.read_text() == "first"


def test_a_directory_that_another_made_meanwhile_is_kept(tmp_path):
    with files.directory_at_once(tmp_path / "d", replace=False) as part:
        (part / "mine").touch()
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "theirs").touch()
    assert names(tmp_path / "d") == ["theirs"] and names(tmp_path) == ["d"]


def test_kept_lines_are_those_wanted_in_their_order(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"1\n2\n3\n4")
    files.keep_lines(file, lambda line: line.endswith(b"\n") and line != b"2\n")
    assert file.read_bytes() == b"1\n3\n"


def test_a_written_file_can_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o022)
    try:
        files.write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("path", ["", "/"])
def test_what_is_no_name_of_a_file_is_refused_as_the_folder_that_it_is(path):
    with pytest.raises(IsADirectoryError):
        files.write_text(Path(path), "x")
