"""What ablation rows are, what their results say, and how that is shown."""

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from geoagent_rl.config import load
from geoagent_rl.evaluation.ablations import (
    CLAIMS,
    choose,
    grid_rows,
    interval,
    read_rows,
    summarise,
    verdict,
)
from geoagent_rl.pages.ablation import markdown, picture, write_ablation
from geoagent_rl.types import UserError
from tests.support.paths import CONFIGS

ROWS = read_rows(CONFIGS / "ablations")


def table(city: float, region: float, country: float) -> dict:
    hit = {"1": 0.0, "25": city, "200": region, "750": country, "2500": 1.0}
    return {
        "n": 100,
        "hit": hit,
        "geoscore": 3000.0,
        "format_valid": 1.0,
        "reward_consistency": 0.5,
        "reward_total": 2,
    }


RESULTS = {
    ("base", 0): table(0, 0, 0), ("base", 1): table(0, 0, 0.01),
    ("sft", 0): table(0.1, 0.4, 0.8), ("sft", 1): table(0.12, 0.41, 0.82),
    ("full", 0): table(0.3, 0.5, 0.8), ("full", 1): table(0.1, 0.52, 0.82),
}  # fmt: skip


@pytest.mark.parametrize("config", ["local.yaml", "paper.yaml"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_a_valid_configuration_and_changes_what_it_says(row, config):
    settings = load(CONFIGS / config, row.dotlist())
    for key, wanted in row.overrides.items():
        value = settings
        for name in key.split("."):
            value = getattr(value, name)
        assert (list(value) if isinstance(value, list | tuple) else value) == wanted
    assert not row.overrides or row.grpo
    in_play = {name for name, weight in vars(settings.reward.weights).items() if weight}
    assert in_play & set(settings.reward.required) or not row.grpo


def test_every_row_of_the_papers_ablations_is_there_and_every_claim_is_the_papers():
    published = {row.name: row.paper for row in ROWS if row.paper}
    assert len(published) == 10 and published["full"] == {
        "city": 15.69,
        "region": 33.39,
        "country": 60.37,
    }
    for claim in CLAIMS:
        above = [
            published[claim.better][c] > published[claim.worse][c]
            for c in ("city", "region", "country")
        ]
        assert sum(above) >= 2, (
            claim
        )  # the two that hold in two columns only say which in their meaning
        assert all(above) == ("(city and" not in claim.meaning), claim


def test_a_file_that_is_no_row_is_refused_in_one_line(tmp_path):
    for text, says in (
        ("title: x", "no ablation row"),
        ("[1", "no ablation row"),
        ("{title: x, order: 1, start: sft, grpo: false, paper: no such system}", "no such system"),
        ("{title: x, order: 1, start: nowhere, grpo: false}", "base or sft"),
        (
            "{title: x, order: 1, start: sft, grpo: true, overrides: {rollout.engines: 2}}",
            "rollout.engines",
        ),
    ):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(UserError, match=says) as refused:
            read_rows(tmp_path)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="no ablation row 'ful'; there are: base, sft"):
        choose(ROWS, ["ful"])
    with pytest.raises(UserError, match="--rows-dir"):
        read_rows(tmp_path / "nowhere")


def test_the_grid_varies_one_weight_at_a_time():
    rows = grid_rows({"spatial": 1.5, "semantic": 1.0, "consistency": 0.5, "format": 0.5}, [0.5, 2])
    assert [row.overrides for row in rows] == [
        {"reward.weights.spatial": 0.75}, {"reward.weights.spatial": 3.0},
        {"reward.weights.semantic": 0.5}, {"reward.weights.semantic": 2.0},
        {"reward.weights.consistency": 0.25}, {"reward.weights.consistency": 1.0},
    ]  # fmt: skip
    assert len({row.name for row in rows}) == 6


def test_the_interval_is_students_t():
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and half == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert interval([5.0]) == (5.0, None)


@pytest.mark.parametrize(
    ("paper", "ours", "half", "says"),
    [
        (2.0, 5.0, 1.0, "holds"),
        (-2.0, -3.0, 1.0, "holds"),
        (2.0, -3.0, 1.0, "reversed"),
        (2.0, 1.0, 1.5, "same sign"),
        (2.0, 1.0, None, "same sign"),
        (2.0, -1.0, 3.0, "other sign"),
        (2.0, 0.0, 0.0, "equal"),
        (None, 1.0, 0.0, "not in the paper"),
    ],
)
def test_a_verdict_is_certain_only_where_the_interval_excludes_zero(paper, ours, half, says):
    assert verdict(paper, ours, half) == says


def test_orderings_are_judged_pair_by_pair_over_seeds():
    outcome = summarise(ROWS, RESULTS)
    assert [row["name"] for row in outcome["rows"]] == ["base", "sft", "full"]
    claims = {(c["better"], c["worse"]): c["columns"] for c in outcome["claims"]}
    assert set(claims) == {("sft", "base"), ("full", "sft")}  # only pairs that were both run
    found = claims["full", "sft"]
    assert found["region"]["ours"] == pytest.approx(10.5) and found["region"]["verdict"] == "holds"
    assert found["city"]["ours"] == pytest.approx(9.0) and found["city"]["verdict"] == "same sign"
    assert found["country"]["verdict"] == "equal" and found["region"]["paper"] == pytest.approx(
        33.39 - 23.84
    )
    assert json.loads(json.dumps(outcome)) == outcome | {
        "rows": json.loads(json.dumps(outcome["rows"]))
    }


def test_the_table_and_the_page_show_ours_beside_the_papers(tmp_path):
    outcome = summarise(ROWS, RESULTS)
    text = markdown(outcome)
    assert (
        "| full | 2 | 20.0 ± 127.1 | 51.0 ± 12.7 |" in text and "| 15.69 | 33.39 | 60.37 |" in text
    )
    assert "full > sft" in text and "+9.55, +10.5 ± " in text
    write_ablation(tmp_path / "page.html", outcome, "<b>")
    page = (tmp_path / "page.html").read_text()
    assert (
        page.count('class="raw"') == 6 and page.count('class="guess"') == 3 and "&lt;b&gt;" in page
    )
    assert "reward.weights" not in page  # none of these rows overrides anything
    HTMLParser().feed(page)
    drawn = ElementTree.fromstring(picture(outcome))  # a file that stands alone, well-formed
    assert drawn.tag.endswith("svg") and len(drawn.findall(".//{*}circle[@class='truth']")) == 3
