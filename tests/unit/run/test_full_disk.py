"""A full disk at every write of every writer: the files are as before, or as after, byte for byte.

Each writer is stopped at its first, second, ... call that asks the disk for room, until it gets
through."""

import contextlib
import dataclasses
import shutil
from pathlib import Path

import pytest

from cluster import running
from geoagent_rl import config as configuration
from geoagent_rl import files
from geoagent_rl.data import manifest
from geoagent_rl.data.sample import Sample
from geoagent_rl.pages.page import write_page
from geoagent_rl.run import checkpoints
from geoagent_rl.run.directory import MARK, RunDir
from geoagent_rl.types import UserError
from tests.support.full_disk import FullDisk, files_below

CONFIG = configuration.load(None, ["data.manifest=x"])
SAMPLE = Sample("a", "a.png", "Japan", "", "", 35.7, 139.7)
BIG = "x" * 30_000  # more than one write


def fill(out: Path) -> None:
    """As a learner fills a checkpoint."""
    (out / "adapter").mkdir()
    (out / "adapter" / "weights").write_text(BIG)


def policy(run: RunDir) -> None:
    with files.directory_at_once(run.path / "policy", durable=True) as part:
        fill(part)


def noted(run: RunDir) -> None:
    with running.noted("id", run.path, "address"):
        raise NotTakenDownError


class NotTakenDownError(Exception):
    """Ends the block of a note."""


def samples(run: RunDir) -> None:
    image = str(run.path / "a.png")
    manifest.write(run.path / "m.jsonl", [dataclasses.replace(SAMPLE, image=image)])


WRITERS = {
    "text": lambda run: files.write_text(run.path / "done.json", BIG),
    "durable json": lambda run: files.write_json(run.path / "eval.json", BIG, durable=True),
    "kept lines": lambda run: files.keep_lines(run.path / "rows.jsonl", lambda line: line > b"2"),
    "directory": policy,
    "configuration": lambda run: run.begin(CONFIG),
    "end": lambda run: run.finish(7),
    "evaluation": lambda run: run.record_eval("grpo", "eval", {"n": 2}),
    "predictions": lambda run: run.record_predictions("grpo", "eval", [{"text": BIG}] * 2),
    "checkpoint": lambda run: checkpoints.write_whole(run.checkpoint(6), fill, {"prompts": 3}),
    "link to the best": lambda run: checkpoints.tidy(run.path / "checkpoints", 2, best=4),
    "page": lambda run: write_page(run.path / "report.html", "a", ["b"]),
    "manifest": samples,
    "note of a live run": noted,
}


@pytest.fixture
def begun(tmp_path, monkeypatch) -> RunDir:
    """A run with something in every file."""
    monkeypatch.setenv("GEOAGENT_CACHE", str(tmp_path / "run" / "cache"))
    run = RunDir(tmp_path / "run").begin(dataclasses.replace(CONFIG, steps=3))
    (run.path / "a.png").touch()
    for name in ("done.json", "eval.json", "report.html", "m.jsonl"):
        (run.path / name).write_text("{}\n")
    (run.path / "rows.jsonl").write_text("1\n2\n3\n")
    policy(run)
    for step in (2, 4):
        checkpoints.write_whole(run.checkpoint(step), lambda out: None, {})
    checkpoints.tidy(run.path / "checkpoints", 2, best=2)
    return run


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_that_finds_no_room_leaves_all_as_it_was(begun, writer):
    write, saved = WRITERS[writer], begun.path.with_name("saved")
    before = files_below(begun.path)
    shutil.copytree(begun.path, saved, symlinks=True)
    with contextlib.suppress(NotTakenDownError):
        write(begun)
    after = files_below(begun.path)
    for room in range(100):
        shutil.rmtree(begun.path)
        shutil.copytree(saved, begun.path, symlinks=True)
        disk = FullDisk(room)
        try:
            with pytest.MonkeyPatch.context() as patch:
                disk.into(patch)
                write(begun)
            break
        except NotTakenDownError:
            break
        except OSError:
            assert files_below(begun.path) in (before, after)
    assert room > 0 and disk.calls == room


def test_a_run_does_not_end_without_lines_that_found_no_room(tmp_path):
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.settle()
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(0).into(patch)
        run.append("predictions.jsonl", [{"uid": "a"}])
        with pytest.raises(UserError, match="no room for predictions.jsonl; make room"):
            run.settle()
    run.settle()
    assert run.rows("predictions.jsonl") == [{"uid": "a"}]


def test_lines_that_wait_are_forgotten_with_the_steps_that_are_done_again(tmp_path):
    """A learner that dies while the disk is full goes back to its checkpoint."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.append("metrics.jsonl", [{"step": 1}])
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(0).into(patch)
        run.append("metrics.jsonl", [{"step": 2}])
    run.truncate(1)
    for step in (2, 3):
        run.append("metrics.jsonl", [{"step": step}])
    assert [row["step"] for row in run.rows("metrics.jsonl")] == [1, 2, 3]


def test_an_appender_leaves_no_half_line_and_writes_each_line_once(tmp_path):
    rows = [{"step": i, "text": BIG} for i in range(3)]
    for there in (False, True):
        for room in range(10):
            run = RunDir(tmp_path / f"{there}{room}")
            run.path.mkdir()
            run.append("rollouts.jsonl", rows[:1] if there else ())
            before = (run.path / "rollouts.jsonl").read_bytes()
            disk = FullDisk(room)
            with pytest.MonkeyPatch.context() as patch:
                disk.into(patch)
                run.append("rollouts.jsonl", rows[1:])
            if run.waiting:
                assert (run.path / "rollouts.jsonl").read_bytes() == before
                assert "No space left on device" in run.take_problems()[0]
                run.append("rollouts.jsonl", [])
            written = rows if there else rows[1:]
            assert run.rows("rollouts.jsonl") == written and not run.waiting
            if disk.calls <= room:
                break
        assert room > 0


WHOLE = MARK + configuration.to_yaml(CONFIG)


def test_a_start_on_a_full_disk_leaves_nothing_half(tmp_path):
    for room in range(20):
        run, disk = RunDir(tmp_path / "new" / str(room)), FullDisk(room)
        with pytest.MonkeyPatch.context() as patch:
            disk.into(patch)
            try:
                with run.exclusive():
                    run.begin(CONFIG)
                break
            except (OSError, UserError):
                pass
        # a configuration that has its name already is whole
        left = files_below(run.path)
        assert left.pop(".lock", b"") == b"" and set(left.values()) <= {WHOLE.encode()}
    assert room > 0 and (run.path / "config.yaml").read_text() == WHOLE
