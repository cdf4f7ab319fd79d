"""The monitor follows files that are being written, cut and replaced, and shows no file that a run does not own."""

import json

import pytest
from monitor_runs import EVIL, group, new_run, photograph, record

from cluster.monitor.runs import Run, Runs
from cluster.monitor.tail import Rollouts, Steps, _ends
from geoagent_rl.data.images import BadImage
from geoagent_rl.rundir import rollout_rows
from geoagent_rl.types import UserError


def test_only_whole_new_lines_are_taken(tmp_path):
    file = tmp_path / "metrics.jsonl"
    steps = Steps(file)
    steps.refresh()
    assert steps.rows == 0  # not there yet
    file.write_text('{"step": 1, "kl": 0.5}\n{"step": 2, "lo')
    steps.refresh()
    assert (steps.rows, steps.columns) == (1, {"step": [1], "kl": [0.5]})
    with file.open("a") as more:
        more.write('ss": NaN}\n{"step": 3, "loss": 1.23456789}\n')
    steps.refresh()
    shown = {name: steps.numbers(name) for name in steps.columns}
    assert shown == {"step": [1, 2, 3], "kl": [0.5, None, None], "loss": [None, None, 1.23457]}


def test_a_run_that_went_back_is_read_anew(tmp_path):
    run = new_run(tmp_path)
    record(run, photograph(tmp_path / "photos"), range(1, 6))
    seen = Run(run.path)
    first = seen.series(["kl"], 0, "")
    assert first["columns"]["step"] == [1, 2, 3, 4, 5]
    assert seen.series(["kl"], 5, first["generation"])["columns"] == {"step": [], "kl": []}
    assert seen.page("newest", None, "", False, 0)["all"] == 40
    run.truncate(2)
    record(run, photograph(tmp_path / "photos"), range(3, 5))
    again = seen.series(["kl"], 5, first["generation"])
    assert again["first"] == 0 and again["columns"]["step"] == [1, 2, 3, 4]
    assert seen.page("newest", None, "", False, 0)["all"] == 32


def test_the_quick_index_says_what_the_rows_say(tmp_path):
    forged = '", "total": 9.0, "advantage": 1.0}\n{"step": 7, "uid": "x'
    for words in ("", EVIL, forged, 'quote " and \\ backslash \ud800'):
        for row in rollout_rows(3, group(3, 5, tmp_path, words, 0.5)):
            for value in (row, {**row, "total": None}, {"step": 3, **row, "more": 1}):
                step, uid, total = _ends(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
                assert (step, uid) == (3, "photo-5")
                assert total == value["total"] or (value["total"] is None and total != total)


def test_rollouts_are_paged_sorted_and_searched(tmp_path):
    run = new_run(tmp_path)
    record(run, photograph(tmp_path / "photos"), range(1, 11), groups=3)
    seen = Run(run.path)
    newest = seen.page("newest", None, "", False, 0)
    assert newest["found"] == newest["all"] == 120 and len(newest["rows"]) == 24 and newest["rows"][0]["step"] == 10
    assert (
        len(seen.page("oldest", None, "", False, 4)["rows"]) == 24
        and not seen.page("oldest", None, "", False, 5)["rows"]
    )
    best = [row["total"] for row in seen.page("best", None, "", False, 0)["rows"]]
    assert best == sorted(best, reverse=True) and best[0] > seen.page("worst", None, "", False, 0)["rows"][0]["total"]
    assert {row["step"] for row in seen.page("best", 4, "", False, 0)["rows"]} == {4}
    failed = seen.page("newest", None, "photo-2", True, 0)
    assert failed["found"] == 10 and {row["uid"] for row in failed["rows"]} == {"photo-2"}


def test_a_long_file_is_indexed_bit_by_bit(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    row = json.dumps({"step": 1, "uid": "a", "text": "x", "total": 1.0, "advantage": 0.5})
    file.write_text(f"{row}\n" * 5000)
    rollouts = Rollouts(file)
    assert rollouts.refresh(budget_s=0.0) == pytest.approx(0.2)
    while rollouts.refresh(budget_s=0.0) < 1:
        pass
    assert len(rollouts.uids) == 5000 and rollouts.row(4999)["uid"] == "a"


def test_photographs_outside_the_manifests_folder_are_not_shown(tmp_path):
    run = new_run(tmp_path)
    secret = photograph(tmp_path / "elsewhere")
    (tmp_path / "photos" / "link.jpg").symlink_to(secret)
    for image in (
        photograph(tmp_path / "photos"),
        secret,
        tmp_path / "photos" / "link.jpg",
        tmp_path / "photos" / ".." / "elsewhere" / "street.jpg",
    ):
        record(run, image, range(1, 2), groups=1)
    seen = Run(run.path)
    assert seen.image(0, 100).startswith(b"\xff\xd8")
    for number in (4, 8, 12):
        with pytest.raises(BadImage, match="outside"):
            seen.image(number, 100)
    with pytest.raises(IndexError):
        seen.image(-1, 100)


def test_runs_are_found_below_the_folder_newest_first(tmp_path):
    for name in ("old", "sweep/a", "sweep/b"):
        record(new_run(tmp_path, name), photograph(tmp_path / "photos"), range(1, 3))
    new_run(tmp_path, "just-started")
    (tmp_path / "runs" / "notes").mkdir()
    rows = Runs(tmp_path / "runs").listed()
    assert {row["name"] for row in rows} == {"old", "sweep/a", "sweep/b", "just-started"}
    assert [row["written"] for row in rows] == sorted((row["written"] for row in rows), reverse=True)
    assert {row["step"] for row in rows if row["name"] != "just-started"} == {2} and all(row["live"] for row in rows)
    assert [row["name"] for row in Runs(tmp_path / "runs" / "old").listed()] == ["old"]
    with pytest.raises(UserError, match="no folder"):
        Runs(tmp_path / "nowhere")
