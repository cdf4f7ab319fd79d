"""The monitor follows files that are being written, cut and replaced, and shows no file that a run
does not own.
"""

import json

import numpy as np
import pytest

from cluster.monitor.panels import described
from cluster.monitor.rollout_view import view
from cluster.monitor.runs import Run, Runs
from cluster.monitor.tail import POINTS, Rollouts, Steps, _ends, smoothed, thinned
from geoagent_rl.data.images import BadImage
from geoagent_rl.run.directory import rollout_rows
from geoagent_rl.types import UserError
from tests.support.monitor_runs import EVIL, group, new_run, photograph, record


def test_only_whole_new_lines_are_taken(tmp_path):
    file = tmp_path / "metrics.jsonl"
    steps = Steps(file)
    steps.refresh()
    assert steps.rows == 0  # not there yet
    file.write_text('{"step": 1, "kl": 0.5}\n{"step": 2, "lo')
    steps.refresh()
    assert steps.rows == 1 and steps.curve("kl") == [[1], [0.5], []]
    with file.open("a") as more:
        more.write('ss": NaN}\n\0\0\n{"step": 3, "loss": 1.23456789}\n')
    steps.refresh()
    shown = {name: steps.curve(name) for name in ("kl", "loss")}
    assert shown == {"kl": [[1], [0.5], []], "loss": [[3], [1.23457], []]}


@pytest.mark.parametrize(
    "harm",
    [
        {"metrics.jsonl": b'\0\0\0\n{"step"', "config.yaml": b"\xff{", "eval.json": b"["},
        {"metrics.jsonl": b"[1]\nnull\n7\n", "config.yaml": b"- a\n", "rollouts.jsonl": b"\0\n"},
        {"metrics.jsonl": b'{"step": "x", "reward_total_mean": []}\n', "config.yaml": b""},
        {"metrics.jsonl": b"", "done.json": b'{"steps": null}\n'},
        {"metrics.jsonl": b"", "done.json": b'{"steps": "a"}\n', "config.yaml": b"[" * 5000},
    ],
)
def test_one_damaged_run_among_ten_is_listed_with_the_others(tmp_path, harm):
    for i in range(10):
        run = new_run(tmp_path, f"run{i}")
        run.append("metrics.jsonl", [{"step": 3, "reward_total_mean": 0.5}])
    for name, data in harm.items():
        (run.path / name).write_bytes(data)
    seen = Runs(tmp_path / "runs")
    listed = {row["name"]: row["step"] for row in json.loads(json.dumps(seen.listed()))}
    assert len(listed) == 10 and all(listed[f"run{i}"] == 3 for i in range(9))
    assert "spatial" in seen.parts()
    assert seen.get("run9").series(["loss"], 1, "")["curves"]["loss"] == [[], [], []]
    assert seen.get("run9").page("newest", None, "", False, 0)["rows"] == []


def test_a_reward_of_the_user_s_own_is_shown_like_a_built_in_one(tmp_path):
    run = new_run(tmp_path)
    run.append("metrics.jsonl", [{"step": 1, "reward_spatial_mean": 0.5}])
    seen = Runs(tmp_path / "runs")
    assert "near" not in seen.parts() and seen.parts()[:2] == ["spatial", "semantic"]
    steps = seen.get(run.path.name).steps
    steps.refresh()
    rows = [{"step": s, "reward_near_mean": s / 4, "latency_near_q50": 0.1} for s in (2, 3)]
    run.append("metrics.jsonl", [*rows, {"step": 4, "reward_near_mean": 1, "words": "x"}])
    steps.refresh()
    assert steps.curve("reward_near_mean") == [[2, 3, 4], [0.5, 0.75, 1.0], []]
    assert steps.curve("reward_spatial_mean") == [[1], [0.5], []]
    assert steps.curve("latency_near_q50")[0] == [2, 3] and steps.curve("words") == [[], [], []]
    assert seen.parts()[-1] == "near"
    page = described(seen.parts())
    shown = {panel["title"]: panel["metrics"] for panel in page["panels"]}
    assert "reward_near_mean" in shown["Reward by component"] and "Near reward" in shown
    assert page["metrics"]["latency_near_q50"]["unit"] == "s"
    row = {"text": "", "parts": {"near": {"kind": "score", "score": 1.0}}, "truth": {}}
    assert [part["name"] for part in view(row, {"near": 0.5})["parts"]] == ["near"]


def test_a_curve_is_the_centred_mean_thinned_to_means_over_all_steps():
    y = np.array([0.0, 3.0, 6.0, 0.0, 3.0])
    assert smoothed(y, 1).tolist() == y.tolist()
    assert smoothed(y, 5).tolist() == [
        0,
        3,
        2.4,
        3,
        3,
    ]  # at the ends over as many as there are on both sides
    assert thinned(y) is y
    long = np.arange(1, 1001.0)
    assert (
        len(thinned(long)) == POINTS
        and np.average(thinned(long), weights=[2, 3] * 200) == long.mean()
    )
    assert smoothed(y[:0], 5).tolist() == [] and thinned(long)[0] == 1.5


def test_a_run_that_went_back_is_read_anew(tmp_path):
    run = new_run(tmp_path)
    record(run, photograph(tmp_path / "photos"), range(1, 6))
    seen = Run(run.path)
    first = seen.series(["kl"], 1, "")
    assert first["curves"]["kl"][0] == [1, 2, 3, 4, 5]
    assert seen.series(["kl"], 1, first["state"]) == {"state": first["state"]}  # nothing new
    assert "curves" in seen.series(["kl"], 5, first["state"])  # smoothed otherwise
    assert seen.page("newest", None, "", False, 0)["all"] == 40
    run.truncate(2)
    record(run, photograph(tmp_path / "photos"), range(3, 5))
    assert seen.series(["kl"], 1, first["state"])["curves"]["kl"][0] == [1, 2, 3, 4]
    assert seen.page("newest", None, "", False, 0)["all"] == 32


def test_the_quick_index_says_what_the_rows_say(tmp_path):
    forged = '", "total": 9.0, "advantage": 1.0}\n{"step": 7, "uid": "x'
    for words in ("", EVIL, forged, 'quote " and \\ backslash \ud800'):
        for row in rollout_rows(3, group(3, 5, tmp_path, words, 0.5)):
            for value in (row, {**row, "total": None}, {"step": 3, **row, "more": 1}):
                step, uid, total = _ends(
                    json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
                )
                assert (step, uid) == (3, "photo-5")
                assert total == value["total"] or (value["total"] is None and total != total)


def test_raw_values_come_with_averages_and_wall_time_counts_everything(tmp_path):
    run = new_run(tmp_path)
    rows = [
        {"step": s, "kl": float(s % 2), "step_seconds": 2.0, "save_seconds": 1.0} for s in (1, 2, 3)
    ]
    run.append("metrics.jsonl", rows)
    found = Run(run.path).series(["kl"], 5, "")
    assert found["curves"]["kl"] == [[1, 2, 3], [1.0, 0.666667, 1.0], [1.0, 0.0, 1.0]]
    assert found["seconds"] == [[1, 2, 3], [3.0, 6.0, 9.0]]


def test_a_group_is_the_answers_to_one_prompt_even_where_a_prompt_comes_twice(tmp_path):
    run = new_run(tmp_path)
    twice = [
        group(1, 7, tmp_path, "", 0.5),
        group(1, 7, tmp_path, "", 0.5),
        group(2, 7, tmp_path, "", 0.5),
    ]
    for step, one in zip((1, 1, 2), twice, strict=True):
        run.append("rollouts.jsonl", rollout_rows(step, one))
    seen = Run(run.path)
    rows = list(reversed(seen.rollouts.last(12)))
    assert [row["index"] for row in seen.group(rows[5])] == [1]  # nothing is indexed yet
    seen.rollouts.refresh(10.0)
    assert [row["at"] for row in seen.group(rows[5])] == rows[4:8]
    assert [row["at"] for row in seen.group(rows[8])] == rows[8:]


def test_rollouts_are_paged_sorted_and_searched(tmp_path):
    run = new_run(tmp_path)
    record(run, photograph(tmp_path / "photos"), range(1, 11), groups=3)
    seen = Run(run.path)
    newest = seen.page("newest", None, "", False, 0)
    assert (
        newest["found"] == newest["all"] == 120
        and len(newest["rows"]) == 24
        and newest["rows"][0]["step"] == 10
    )
    assert (
        len(seen.page("oldest", None, "", False, 4)["rows"]) == 24
        and not seen.page("oldest", None, "", False, 5)["rows"]
    )
    best = [row["total"] for row in seen.page("best", None, "", False, 0)["rows"]]
    assert (
        best == sorted(best, reverse=True)
        and best[0] > seen.page("worst", None, "", False, 0)["rows"][0]["total"]
    )
    assert {row["step"] for row in seen.page("best", 4, "", False, 0)["rows"]} == {4}
    failed = seen.page("newest", None, "photo-2", True, 0)
    assert failed["found"] == 10 and {row["uid"] for row in failed["rows"]} == {"photo-2"}


def test_a_long_file_is_indexed_bit_by_bit_and_the_newest_rows_are_there_at_once(tmp_path):
    run = new_run(tmp_path)
    scores = {"total": 1.0, "advantage": 0.5}
    rows = [{"step": i // 8, "uid": f"p{i}", "text": "x" * (i % 50), **scores} for i in range(5000)]
    run.append("rollouts.jsonl", rows)
    seen = Run(run.path)
    seen.rollouts.refresh = lambda: Rollouts.refresh(
        seen.rollouts, budget_s=0.0
    )  # 1000 rows at a time
    pages = [seen.page("newest", None, "", False, number) for number in (0, 1)]
    assert pages[0]["indexed"] < 0.3 and pages[0]["all"] == 1000
    assert [row["uid"] for page in pages for row in page["rows"]] == [
        f"p{i}" for i in range(4999, 4951, -1)
    ]
    while seen.rollouts.refresh() < 1:
        pass
    for before, number in zip(pages, (0, 1), strict=True):
        assert seen.page("newest", None, "", False, number)["rows"] == before["rows"]
    assert seen.page("oldest", None, "", False, 0)["rows"][0]["at"] == 0
    at = pages[0]["rows"][0]["at"]
    assert seen.rollouts.row(at)["uid"] == "p4999"
    for nowhere in (-1, 1, at + 1, 10**9):
        with pytest.raises(IndexError):
            seen.rollouts.row(nowhere)


def test_the_last_rows_of_a_short_or_growing_file(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    rollouts = Rollouts(file)
    assert rollouts.last(3) == []
    for text, places in (
        ("", []),
        ("{}", []),
        ("{}\n", [0]),
        ("{}\n[]\n{", [3, 0]),
        ("{}\n" * 5, [12, 9, 6]),
    ):
        file.write_text(text)
        assert rollouts.last(3) == places


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
    places = [row["at"] for row in seen.page("oldest", None, "", False, 0)["rows"]]
    assert seen.image(places[0], 100).startswith(b"\xff\xd8")
    for number in (4, 8, 12):
        with pytest.raises(BadImage, match="outside"):
            seen.image(places[number], 100)
    with pytest.raises(IndexError):
        seen.image(-1, 100)


def test_rows_of_an_ablation_show_the_scenes_that_they_share(tmp_path):
    run = new_run(tmp_path, "seed-0/full")
    record(run, photograph(tmp_path / "runs" / "seed-0" / "data" / "train"), range(1, 2), groups=1)
    assert Run(run.path).image(0, 100).startswith(b"\xff\xd8")


def test_runs_are_found_below_the_folder_newest_first(tmp_path):
    for name in ("old", "sweep/a", "sweep/b"):
        record(new_run(tmp_path, name), photograph(tmp_path / "photos"), range(1, 3))
    new_run(tmp_path, "just-started")
    (tmp_path / "runs" / "notes").mkdir()
    rows = Runs(tmp_path / "runs").listed()
    assert {row["name"] for row in rows} == {"old", "sweep/a", "sweep/b", "just-started"}
    assert [row["written"] for row in rows] == sorted(
        (row["written"] for row in rows), reverse=True
    )
    found = {row["name"]: (row["step"], row["status"]) for row in rows}
    assert found.pop("just-started") == (0, "begun") and set(found.values()) == {(2, "crashed")}
    assert [row["name"] for row in Runs(tmp_path / "runs" / "old").listed()] == ["old"]
    with pytest.raises(UserError, match="no folder"):
        Runs(tmp_path / "nowhere")
