"""The explanation of a run shows few cards however many are asked for, and groups as text."""

import json

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from geoagent_rl.pages.explanation import CARDS, show
from tests.support.monitor_runs import EVIL, new_run, photograph, record

ROWS = 1000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    made = new_run(folder, "long")
    record(made, photograph(folder / "photos"), range(1, 4), words=EVIL)
    return made.path


def written(tmp_path, run, *words):
    page = tmp_path / "page.html"
    asked = ["reward", "explain", str(run), *words, "--html", str(page)]
    assert CliRunner().invoke(app, asked, catch_exceptions=False).exit_code == 0
    return page.read_text()


def test_more_cards_than_a_browser_takes_are_left_out(run, tmp_path):
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    with (run / "rollouts.jsonl").open("w") as file:
        for i in range(ROWS):
            row = rows[i % len(rows)] | {"step": i // 8 + 1, "index": i % 8}
            file.write(json.dumps(row) + "\n")
    page = written(tmp_path, run, "--worst", str(CARDS + 9))
    assert f"{ROWS:,} answers" in page and page.count('class="card rollout"') == CARDS
    assert "9 more are left out" in page


def test_a_step_shows_its_groups_side_by_side_and_nothing_a_model_wrote_is_markup(run, tmp_path):
    page = written(tmp_path, run, "--step", "1")
    assert page.count("<h2>Step 1, photo-") > 1 and "<td>#0</td>" in page
    assert EVIL not in page and "&lt;script&gt;" in page


def test_a_reward_of_ones_own_says_what_it_kept():
    part = {"kind": "score", "score": 1.0, "reason": "", "weight": 0.5, "words": 3, "levels": []}
    truth = {"country": "", "region": "", "place": "", "lat": 0.0, "lon": 0.0}
    row = {"uid": "a", "line": 1, "levels": ["", "", ""], "point": None, "problem": ""}
    row |= {"truth": truth, "total": 0.5, "max_total": 0.5, "parts": {"brief": part}}
    assert "brief        1.0000 x 0.5       words 3" in show(row)
