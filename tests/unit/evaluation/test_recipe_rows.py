"""Published recipes as rows of an ablation: what a row takes from its recipe and what all share."""

import dataclasses
import json

import pytest

from geoagent_rl.config import load
from geoagent_rl.evaluation.ablations import AblationRow, summarise
from geoagent_rl.evaluation.recipe_rows import recipe_rows
from geoagent_rl.pages.ablation import markdown
from geoagent_rl.policy.form_prompts import form_prompt
from geoagent_rl.recipes import RECIPES
from geoagent_rl.types import UserError
from tests.support.paths import CONFIGS

LOCAL, STEPS = CONFIGS / "local.yaml", ["steps=20"]
SHARED = load(LOCAL, STEPS)
ROWS = {row.name: row for row in recipe_rows(SHARED, ["all"], CONFIGS)}


def test_every_recipe_is_a_row_after_the_cold_start_in_its_answer_form():
    names = list(ROWS)
    recipes = [name for name in names if ROWS[name].grpo]
    assert len(recipes) == len(RECIPES)
    for name in recipes:
        start = ROWS[ROWS[name].cold_start]
        assert names.index(start.name) < names.index(name)
        assert start.answer == ROWS[name].answer and not start.grpo


@pytest.mark.parametrize("name", ROWS)
def test_a_row_takes_what_is_paid_and_learnt_and_leaves_the_rest_alike(name):
    row = AblationRow(**json.loads(json.dumps(dataclasses.asdict(ROWS[name]))))
    assert row == ROWS[name]  # as it comes back from rows.json
    config = load(LOCAL, [*STEPS, *row.dotlist()])
    assert config.rollout == SHARED.rollout and config.learner.lr == SHARED.learner.lr
    assert config.reward.semantic.gates == SHARED.reward.semantic.gates
    if not row.grpo:
        return
    (recipe,) = (recipe for recipe in RECIPES if recipe.file.endswith(f"{name}.yaml"))
    theirs = load(CONFIGS / recipe.file)
    assert config.policy.answer == theirs.policy.answer
    assert config.learner.advantage == theirs.learner.advantage
    for part in ("weights", "spatial", "custom", "exact_match"):
        assert getattr(config.reward, part) == getattr(theirs.reward, part)
    ends = [(s.of, s.start, s.end) for s in theirs.reward.schedules]
    assert [(s.of, s.start, s.end) for s in config.reward.schedules] == ends
    assert all(schedule.steps == 20 for schedule in config.reward.schedules)


def test_the_prompt_follows_the_form_where_the_shared_one_does():
    shared = load(LOCAL, ["policy.system_prompt=form"])
    row = recipe_rows(shared, ["thinking-with-map"], CONFIGS)[1]
    config = load(LOCAL, row.dotlist())
    assert config.policy.system_prompt == form_prompt("json_lat_lon")
    assert "policy.system_prompt" not in ROWS["thinking-with-map"].overrides


def test_recipes_are_ranked_and_compared_with_their_own_cold_starts():
    def table(region):
        hit = {"1": 0.0, "25": 0.1, "200": region, "750": 0.9, "2500": 1.0}
        return {"n": 9, "hit": hit, "geoscore": 5000 * region, "format_valid": 1.0}

    rows = list(ROWS.values())
    results = {("sft", 0): table(0.5), ("paper", 0): table(0.6), ("geovista", 0): table(0.8)}
    results |= {("sft-lat_lon", 0): table(0.1), ("geo-r", 0): table(0.7)}
    outcome = summarise(rows, results)
    assert [row["name"] for row in outcome["rows"]] == [
        *("sft", "sft-lat_lon", "geovista", "geo-r", "paper")
    ]
    gains = {row["name"]: row["gain"]["region"][0] for row in outcome["rows"] if row["gain"]}
    assert gains == pytest.approx({"geovista": 30.0, "geo-r": 60.0, "paper": 10.0})
    text = markdown(outcome)
    assert "| Geo-R (lat_lon) | +0.0 | +60.0 | +0.0 |" in text
    # the paper has no such rows, and what only one form can earn is no comparison
    assert "paper: city" not in text and "consistency" not in text and "nan" not in text


def test_without_a_recipe_of_that_name_the_message_lists_them():
    with pytest.raises(UserError, match="no recipe 'geo-x'; there are: all, paper, paper-code"):
        recipe_rows(SHARED, ["geo-x"], CONFIGS)
