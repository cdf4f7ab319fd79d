"""The model card (README.md) of an exported checkpoint, from what its run has recorded: no path and
no name of this machine is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from geoagent_rl.config import Config, to_yaml
from geoagent_rl.config.describe import flat
from geoagent_rl.evaluation.metrics import THRESHOLDS_KM
from geoagent_rl.run.checkpoints import state_of
from geoagent_rl.run.directory import CONFIG, RunDir
from geoagent_rl.run.start import settings_of

STAGES = {
    "base": "before SFT",
    "sft": "after SFT",
    "sft_no_hedge": "after SFT, hedges banned (control)",
    "grpo": "after GRPO",
    "eval": "evaluated",
}
OF_THE_MACHINE = ("run.", "placement.", "reward.cache.")  # settings that say nothing of the model
USE = """from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{repo}")
processor = AutoProcessor.from_pretrained("{repo}")"""
LIMITS = """Answers are guesses: biased towards places that are photographed often, and given with reasons \
that may be wrong. Do not use the model to locate private persons without their consent, to stalk, \
harass or surveil, to find where people at risk live or stay, or as the only ground for any decision."""


def model_card(checkpoint: Path, repo: str) -> str:
    """Return the card of a checkpoint directory (run/checkpoints.py). repo: the name that it is
    loaded by. What the run has not recorded is said to be missing.
    """
    base = str(state_of(checkpoint).get("base", ""))
    folder = checkpoint.parent.parent
    run = RunDir(folder) if (folder / CONFIG).is_file() else None
    head: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["geolocation", "grpo", "geoagent-rl"],
    }
    if base and not Path(base).is_absolute():
        head["base_model"] = base
    sections = {
        f"# {repo.split('/')[-1]}": "Says where a photograph was taken, with the reasoning that leads there: "
        "`<think>{JSON}</think><answer>Country; Region; Place</answer>`. Trained with GeoAgent-RL "
        f"{version('geoagent-rl')} on `{_shown(base) or 'a base that is not recorded'}`.",
        "## Use": f"```python\n{USE.format(repo=repo)}\n```\n\nWith the prompt that it was trained on, and the "
        f"place of the answer: `geoagent-rl predict photo.jpg --model FOLDER`.",
        "## Evaluation": _evaluation(run, checkpoint) if run else "Not recorded.",
        "## Training": _training(run, checkpoint) if run else "Not recorded.",
        "## Limits and responsible use": LIMITS,
    }
    body = "\n\n".join(f"{title}\n\n{text}" for title, text in sections.items())
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{body}\n"


def _evaluation(run: RunDir, checkpoint: Path) -> str:
    if run.checkpoints()[-1:] not in ([], [checkpoint.resolve()]):
        return "Of another checkpoint of the run only."
    rows = [
        (STAGES.get(stage, stage), split, table)
        for stage, splits in run.evaluations().items()
        for split, table in splits.items()
        if table.get("n")
    ]
    if not rows:
        return "Not evaluated."
    scale = rows[0][2]["geoscore_scale_km"]
    head = ["", "photographs", "n", *(f"{km} km" for km in THRESHOLDS_KM), "GeoScore"]
    lines = [head, ["---"] * len(head), *(_row(*row) for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"Shares of answers within so many kilometres of the truth, 95 % intervals in brackets; GeoScore is "
        f"5000 exp(-d / {scale:g} km).\n\n{table}"
    )


def _row(stage: str, split: str, table: Mapping[str, Any]) -> list[str]:
    between = table.get("intervals", {})

    def share(km: str) -> str:
        low, high = between.get(km, (None, None))
        interval = f" ({100 * low:.0f}..{100 * high:.0f})" if low is not None else ""
        return f"{100 * table['hit'][km]:.1f} %{interval}"

    hits = [share(str(km)) for km in THRESHOLDS_KM]
    return [stage, split, str(table["n"]), *hits, f"{table['geoscore']:.0f}"]


def _training(run: RunDir, checkpoint: Path) -> str:
    default, ran = flat(yaml.safe_load(to_yaml(Config()))), settings_of(run.path / CONFIG)
    said = [
        f"{key}: {_shown(value)}"
        for key, value in sorted(ran.items())
        if value != default.get(key) and not key.startswith(OF_THE_MACHINE)
    ]
    listed = "\n".join(said)
    return (
        f"Checkpoint `{checkpoint.name}`. Settings that are not the defaults:\n\n```\n{listed}\n```"
    )


def _shown(value: Any) -> str:
    """Return a setting without the folders of this machine."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_shown(part) for part in value)
    text = str(value)
    return Path(text).name if Path(text).is_absolute() else text
