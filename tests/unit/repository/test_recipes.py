"""The published recipes: each loads, asks for what exists, and the page is that of the code."""

import importlib
from pathlib import Path

import pytest

from geoagent_rl.config import load
from geoagent_rl.recipes import RECIPES, described, page

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"


def test_every_configuration_of_a_recipe_is_listed_once():
    listed = sorted(recipe.file for recipe in RECIPES)
    there = [f"recipes/{path.name}" for path in (CONFIGS / "recipes").glob("*.yaml")]
    assert listed == sorted(["paper.yaml", "paper-code.yaml", *there])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_pays_for_something_that_exists(recipe):
    config = load(CONFIGS / recipe.file)
    assert described(recipe, config)["terms"]
    for own in config.reward.custom.values():
        module, _, name = own.function.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_the_page_is_that_of_the_code():
    """Mend: python -m geoagent_rl.recipes docs/recipes.md"""
    assert (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8") == page(CONFIGS)
