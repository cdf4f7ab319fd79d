"""`geoagent-rl recipes`: the published recipes that configs/recipes/ expresses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.data import Json


def recipes(
    configs: Annotated[Path, typer.Option(help="The folder of configurations.")] = Path("configs"),
    as_json: Json = False,
) -> None:
    """List the published recipes: what each pays, whence it comes and what of it is left out."""
    from geoagent_rl.config import load
    from geoagent_rl.recipes import RECIPES, described

    rows = [described(recipe, load(configs / recipe.file)) for recipe in RECIPES]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    for row in rows:
        print(f"{row['name']}  ({row['file']}; {row['source']})")
        print(f"  {row['answer']}: {row['terms']}; advantage {row['advantage']}; {row['model']}")
        if row["left_out"]:
            print(f"  not expressed: {row['left_out']}")
