"""The published recipes that configs/recipes/ expresses: source, what each pays, what is left out.

What a recipe pays is read from its configuration; sources and omissions stand here. docs/recipes.md
is made by `python -m geoagent_rl.recipes docs/recipes.md`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from geoagent_rl.config import Config, load
from geoagent_rl.files import write_text

LORA = "full fine-tuning (LoRA here)"
TOOLS = "the tool loop"
EXPERTS = "its model, the mixture of experts Qwen3-VL-30B-A3B (the dense 8B here)"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A published recipe: its configuration under configs/, source and what is not expressed."""

    name: str
    file: str
    source: str
    left_out: tuple[str, ...] = ()


RECIPES = (
    Recipe("GeoAgent", "paper.yaml", "arXiv 2602.12617, text"),
    Recipe("GeoAgent, code", "paper-code.yaml", "arXiv 2602.12617, code"),
    Recipe(
        "Geobench",
        "recipes/geobench.yaml",
        "the follow-up of GeoAgent's authors, code",
        (
            LORA,
            "selection of the data by K samples",
            "a strict form that pays 0 on a refusal",
        ),
    ),
    Recipe(
        "GLOBE",
        "recipes/globe.yaml",
        "arXiv 2506.14674, code",
        (LORA, "the locatability reward (a trained vision model, weights unpublished)"),
    ),
    Recipe(
        "GRE Suite, stage II",
        "recipes/gre.yaml",
        "arXiv 2505.18700, code and text",
        (LORA, "stage I (another task)", "the values of theta (unpublished)", "WGS84 distances"),
    ),
    Recipe("Geo-R", "recipes/geo-r.yaml", "arXiv 2601.00388, code", (LORA, "the hard subset")),
    Recipe(
        "Geo-ADAPT, stage 2",
        "recipes/geo-adapt.yaml",
        "arXiv 2603.13628, third-party text",
        (LORA, "its constants (unpublished)", "stage 1 (detector, depth labels)"),
    ),
    Recipe("geospot a", "recipes/geospot-a.yaml", "code", (EXPERTS, "rounding to 1/5000")),
    Recipe(
        "geospot b", "recipes/geospot-b.yaml", "code", (EXPERTS, "forms c to f (several turns)")
    ),
    Recipe(
        "SeekWorld",
        "recipes/seekworld.yaml",
        "code",
        (LORA, "16 updates of one rollout", "whitening over tokens", "oversampling of rows"),
    ),
    Recipe(
        "GeoVista",
        "recipes/geovista.yaml",
        "arXiv 2511.15705, code",
        (LORA, TOOLS, "the verdict on levels by a commercial model"),
    ),
    Recipe(
        "REVERSE",
        "recipes/reverse.yaml",
        "arXiv 2605.26861, code",
        (LORA, TOOLS, "the tool reward, .3 of the total"),
    ),
    Recipe(
        "Thinking with Map",
        "recipes/thinking-with-map.yaml",
        "arXiv 2601.05432",
        (LORA, EXPERTS, TOOLS),
    ),
    Recipe(
        "SpotAgent",
        "recipes/spotagent.yaml",
        "arXiv 2602.09463, third-party text",
        (LORA, TOOLS, "filtering of groups by distance"),
    ),
)


def described(recipe: Recipe, config: Config) -> dict[str, str]:
    """Return what a recipe is, as texts by column. config: the one in its file."""
    return {
        "name": recipe.name,
        "file": f"configs/{recipe.file}",
        "source": recipe.source,
        "model": config.policy.architecture or config.policy.model,
        "answer": config.policy.answer,
        "terms": terms(config),
        "advantage": config.learner.advantage,
        "left_out": "; ".join(recipe.left_out),
    }


def terms(config: Config) -> str:
    """Return the parts in play with their weights, such as "spatial (knots) 1, format 0.5"."""
    reward = config.reward
    weights = vars(reward.weights) | {name: own.weight for name, own in reward.custom.items()}
    moving = {schedule.of.split(".")[0] for schedule in reward.schedules}
    kinds: dict[str, str] = {
        "spatial": reward.spatial.shape,
        "exact_match": reward.exact_match.style,
    }
    shown = []
    for name, weight in weights.items():
        notes = [kinds[name]] if name in kinds else []
        notes += ["by step"] if name in moving else []
        note = f" ({', '.join(notes)})" if notes else ""
        if weight:
            shown.append(f"{name}{note} {weight:g}")
    return ", ".join(shown)


def page(configs: Path) -> str:
    """Return docs/recipes.md."""
    columns = ("name", "answer", "terms", "advantage", "model", "source", "left_out")
    loaded = [(recipe, load(configs / recipe.file)) for recipe in RECIPES]
    rows = [described(recipe, config) for recipe, config in loaded]
    lines = [
        f"| [{r['name']}](../{r['file']}) | " + " | ".join(r[c] for c in columns[1:]) for r in rows
    ]
    head = ["recipe", *columns[1:-1], "not expressed"]
    table = [" | ".join(head), "|".join(["---"] * len(head))]
    terms_of = "\n".join(f"| {line.strip('| ')} |" for line in [*table, *lines]) + "\n"
    told = [values(recipe, config) for recipe, config in loaded]
    cells = [list(told[0]), ["---"] * len(told[0]), *(list(row.values()) for row in told)]
    return HEAD + terms_of + VALUES + "".join(f"| {' | '.join(row)} |\n" for row in cells)


def values(recipe: Recipe, config: Config) -> dict[str, str]:
    """Return a recipe's numbers of optimisation, as texts by column."""
    learner, rollout = config.learner, config.rollout
    warmup = f", warm-up {learner.warmup_steps:g}" if learner.warmup_steps else ""
    return {
        "recipe": recipe.name,
        "completions": f"{rollout.prompts_per_step} x {rollout.group_size}",
        "temperature": f"{rollout.temperature:g}",
        "longest": f"{rollout.max_tokens:,}",
        "learning rate": f"{learner.lr:g} {learner.lr_decay}{warmup}",
        "Adam": ", ".join(f"{beta:g}" for beta in learner.betas),
        "clip": f"{learner.clip_low:g} / {learner.clip_high:g}",
        "KL": f"{learner.kl_beta:g}",
        "pixels": f"{config.policy.max_pixels:,}",
        "steps": f"{config.steps:,}",
    }


HEAD = """# Recipes

How other projects train a policy to geolocate, each as one configuration, so that a comparison is
one command under one evaluation. Made by `python -m geoagent_rl.recipes docs/recipes.md` from
`configs/recipes/` and `geoagent_rl/recipes.py`; do not edit it. `geoagent-rl recipes --json` prints
the same for programs; `geoagent-rl ablate --recipes all` ranks them on one world
([recipes-compared.md](recipes-compared.md)).

- **Answer forms** (`policy.answer`): `geoagent_rl/answers/forms.py` has the table and says what is
  read from broken answers. `policy.system_prompt=form` takes a short prompt of ours for the form; a
  prompt of your own is a `.txt` file. SFT shows chains of thought of the paper's form rewritten in
  this one.
- **Curves over the distance** (`reward.spatial.shape`): `geoagent_rl/rewards/distance.py`.
- **Terms** that only one recipe has: `geoagent_rl/rewards/terms.py`, used through `reward.custom`.
- **Numbers that change with the step** (`reward.schedules`): a value depends on the step alone, so a
  resumed run scores the same.
- **Advantages** (`learner.advantage`): `geoagent_rl/grpo/advantages.py`, each equal to TRL's.
- **Order of the photographs** (`curriculum`): stages from easy to hard by a column of the manifest
  or by what the run's answers have earned so far, and domains in fixed shares; metrics say epoch,
  stage and shares of every step. `geoagent_rl/data/curriculum.py`.

Where a recipe's code and text differ, the source column says which one is meant. Prompts are ours
throughout. Learning rates are the published ones of full fine-tuning; an adapter usually wants
about ten times as much.

"""

VALUES = """
Numbers of optimisation, from the same sources; what a source does not say is our default
(completions a step are prompts x group; LoRA rank and image size are ours throughout).

"""


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), page(Path("configs")))
