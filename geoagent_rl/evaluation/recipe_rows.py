"""Published recipes (recipes.py) as rows of an ablation: one world, one base, one evaluation.

A row takes from its recipe what it pays and how it learns from it: answer form, reward, advantage,
loss, KL. Data, model, learning rate, group size, batch, steps and services are those of the
command, alike for all rows; so are the encoder's gates, which belong to the encoder. Each row
starts from a cold start in its own answer form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from geoagent_rl.config import Config, load, to_yaml
from geoagent_rl.config.describe import flat
from geoagent_rl.evaluation.ablations import AblationRow, sft_name
from geoagent_rl.policy.form_prompts import form_prompt
from geoagent_rl.recipes import RECIPES, Recipe
from geoagent_rl.types import AnswerForm, UserError

TAKEN = (
    *("policy.answer", "reward.weights.", "reward.required", "reward.spatial.", "reward.custom."),
    *("reward.semantic.", "reward.consistency.", "reward.format.", "reward.exact_match."),
    *("reward.schedules", "learner.advantage", "learner.loss", "learner.ratio", "learner.clip_"),
    *("learner.importance", "learner.kl_beta"),
)
OF_THE_ENCODER = ("reward.semantic.gates", "reward.semantic.names_first")
START_ORDER, RECIPE_ORDER = 300, 301


def recipe_rows(shared: Config, names: Sequence[str], configs: Path) -> list[AblationRow]:
    """Return the recipes of these names (the stems of their files; "all" for all), after the cold
    starts that they begin with.

    shared: what all rows have in common. Raises UserError for a name that no recipe has."""
    known = {Path(recipe.file).stem: recipe for recipe in RECIPES}
    if unknown := [name for name in names if name not in (*known, "all")]:
        raise UserError(f"no recipe {unknown[0]!r}; there are: all, {', '.join(known)}")
    chosen = list(known) if "all" in names else list(dict.fromkeys(names))
    rows = [_row(name, known[name], shared, configs) for name in chosen]
    return [*(_start(form, shared) for form in dict.fromkeys(row.answer for row in rows)), *rows]


def _start(form: AnswerForm, shared: Config) -> AblationRow:
    overrides = _asked(form, shared)
    if form != "levels":
        overrides["reward.weights.consistency"] = 0  # no stages to judge
    return AblationRow(sft_name(form), f"SFT, {form}", START_ORDER, "sft", False, overrides)


def _row(name: str, recipe: Recipe, shared: Config, configs: Path) -> AblationRow:
    config = load(configs / recipe.file)
    scale = shared.steps / config.steps
    stretched = tuple(
        dataclasses.replace(
            schedule,
            steps=max(1, round(schedule.steps * scale)),
            points=tuple((step * scale, value) for step, value in schedule.points),
        )
        for schedule in config.reward.schedules
    )
    config = dataclasses.replace(
        config, reward=dataclasses.replace(config.reward, schedules=stretched)
    )
    ours, theirs = (flat(yaml.safe_load(to_yaml(c))) for c in (shared, config))
    overrides = {
        key: value
        for key, value in theirs.items()
        if key.startswith(TAKEN) and key not in OF_THE_ENCODER and value != ours.get(key)
    }
    form = config.policy.answer
    overrides |= _asked(form, shared)
    return AblationRow(name, f"{recipe.name} ({form})", RECIPE_ORDER, "sft", True, overrides)


def _asked(form: AnswerForm, shared: Config) -> dict[str, Any]:
    """Return the answer form, and the prompt that asks for it where prompts follow the form."""
    if form == "levels":
        return {}
    prompt = {"policy.system_prompt": form_prompt(form)}
    return {"policy.answer": form} | (prompt if shared.policy.system_prompt == "form" else {})
