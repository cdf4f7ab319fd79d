"""Pages, monitor and evaluation show what an answer of any form says: names, position or both."""

from __future__ import annotations

import pytest

from cluster.monitor.rollout_view import brief, view
from geoagent_rl.answers.forms import read
from geoagent_rl.config.reward import SpatialConfig
from geoagent_rl.data.sample import Sample
from geoagent_rl.evaluation.locate import prediction_row
from geoagent_rl.pages.rollout_cards import card
from geoagent_rl.pages.run_explanation import show_group, show_verdict
from geoagent_rl.rewards.spatial import outcome
from geoagent_rl.types import Outcome, Rollout, ScoredRollout, Truth

TRUTH = Truth("Germany", "Bavaria", "Munich", 48.137, 11.575)
TEXT = "<think>a port</think><answer>{}</answer>"
ANSWERS = {
    "lat_lon": "53.5, 10.0",
    "country_city_lat_lon": "Germany, Hamburg, 53.5, 10.0",
    "json_lat_lon": '{"lat": 53.5, "lon": 10.0, "city": "Hamburg", "country": "Germany"}',
    "country_city": "country: Germany\ncity: Hamburg",
    "country_region": "$Germany, Hamburg$",
}


def recorded(form: str) -> dict:
    """A line of rollouts.jsonl, with what reward.explain adds."""
    text = TEXT.format(ANSWERS[form])
    parsed = read(text, form)
    scored = outcome(parsed.levels, None, TRUTH, SpatialConfig(), point=parsed.point)
    part = {"kind": scored.kind, "score": scored.score, "reason": scored.reason}
    truth = {name: getattr(TRUTH, name) for name in ("country", "region", "place", "lat", "lon")}
    spatial = part | {"details": scored.details}
    return {
        **{"uid": "p", "index": 0, "step": 1, "text": text, "truth": truth},
        **{"total": 1.0, "advantage": 0.5, "max_total": 1.5, "weights": {"spatial": 1.5}},
        "parts": {"spatial": spatial},
    }


@pytest.mark.parametrize("form", ANSWERS)
def test_names_and_positions_are_shown_wherever_an_answer_is(form):
    row = recorded(form)
    shown = {
        "card": str(card("best", row, row["weights"], form)),
        "group": show_group([row], form),
        "verdict": show_verdict(row, form),
        "monitor": str(view(row, row["weights"], form)["names"]),
        "monitor's group": str(brief(row, form)),
    }
    for where, text in shown.items():
        assert ("53.5000, 10.0000" in text) == ("lat_lon" in form), where
        assert ("Hamburg" in text) == (form != "lat_lon"), where
    assert "Format:" not in shown["card"] and view(row, row["weights"], form)["problem"] == ""
    assert ("by its own position" in shown["card"]) == ("lat_lon" in form)


@pytest.mark.parametrize("form", ["lat_lon", "country_city_lat_lon"])
def test_an_evaluated_position_is_a_prediction(form):
    row = recorded(form)
    part = row["parts"]["spatial"]
    spatial = Outcome(part["kind"], part["score"], details=part["details"])
    rollout = Rollout("p", 0, (1,), (2,), (), row["text"], "stop", 0)
    sample = Sample("p", "p.jpg", "Germany", "Bavaria", "Munich", TRUTH.lat, TRUTH.lon)
    found = prediction_row(sample, [ScoredRollout(rollout, {"spatial": spatial}, 1.0)])
    assert (found["pred_lat"], found["pred_lon"], found["level"]) == (53.5, 10.0, "position")
    assert found["answer"] == ("53.5000, 10.0000" if form == "lat_lon" else "Germany; ; Hamburg")


def test_another_curve_is_not_shown_as_the_papers():
    row = recorded("lat_lon")
    assert "exp(-" in show_verdict(row, "lat_lon")
    row["parts"]["spatial"]["score"] = 0.4
    assert "exp(-" not in show_verdict(row, "lat_lon")
