"""The shapes of models: of a checkpoint directory, or of a published name. For planning.

Imports nothing heavy, so that a plan takes milliseconds. May know nothing of clusters or GPUs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from geoagent_rl.policy.architecture import Architecture, text_shape
from geoagent_rl.policy.families import FAMILIES, family_named
from geoagent_rl.policy.families.qwen2_5_vl import qwen2_5_vision
from geoagent_rl.types import UserError

TINY_JUDGE = Path(__file__).parents[1] / "assets" / "tiny_judge" / "config.json"
TEXT_MODELS = ("qwen2", "qwen3", "llama")  # a judge's

# Published shapes, by a part of the checkpoint's name, beside the families'. The tiny one is this
# project's own (tiny/policy.py).
PUBLISHED: dict[str, Architecture] = {
    name: shape for family in FAMILIES.values() for name, shape in family.published.items()
} | {
    "Qwen3-4B": Architecture(
        2560, 36, 32, 8, 128, 9728, 151936, tied=True, qkv_bias=False, qk_norm=True
    ),
    "Qwen3-32B": Architecture(5120, 64, 64, 8, 128, 25600, 151936, qkv_bias=False, qk_norm=True),
    "SmolLM2-135M": Architecture(576, 30, 9, 3, 64, 1536, 49152, tied=True, qkv_bias=False),
    "tiny-policy": Architecture(
        128,
        3,
        2,
        1,
        64,
        384,
        576,
        tied=True,
        vision=qwen2_5_vision(2, 96, 192, 128),
        chars_per_token=15.5,
    ),
}
ALIASES = {"tiny": "tiny-policy", "tiny-base": "tiny-policy", "smollm2": "SmolLM2-135M"}


def architecture(model: str, setting: str) -> Architecture:
    """Return the shape of a checkpoint directory, or of a name that contains a published one's.

    Raises UserError that names `setting` where neither is known.
    """
    file = Path(model) / "config.json"
    if file.is_file():
        return from_config(json.loads(file.read_text()), str(file))
    name = ALIASES.get(model, model).lower()
    for known, shape in PUBLISHED.items():
        if known.lower() in name:
            return replace(shape, group=128) if "gptq" in name else shape
    raise UserError(
        f"{setting}={model}: no such checkpoint here, and no published size is known under that name; "
        f"name one of {', '.join(PUBLISHED)}"
    )


def known_architecture(model: str) -> Architecture | None:
    """Return `architecture` of a policy, None where its sizes are not known here."""
    try:
        return architecture(model, "policy.model")
    except UserError:
        return None


def judge_architecture(model: str) -> Architecture:
    """Return the shape of a judge model. UserError for an unknown one."""
    if model == "tiny":
        return from_config(json.loads(TINY_JUDGE.read_text()), str(TINY_JUDGE))
    return architecture(model, "judge.model")


def from_config(config: dict[str, Any], where: str) -> Architecture:
    """Read it from the config.json of a policy's family, or of a Qwen2, Qwen3 or Llama. UserError
    for others."""
    kind = config.get("model_type", "")
    try:
        if kind in TEXT_MODELS:
            group = (config.get("quantization_config") or {}).get("group_size", 0)
            return text_shape(config, group=group)
        return family_named(kind, where).shape(config)
    except KeyError as error:
        raise UserError(f"{where} has no {error}") from None
