"""The families of policies, by the model_type of a checkpoint's config.json."""

from __future__ import annotations

import json

from geoagent_rl.config import Config
from geoagent_rl.policy.checkpoint import checkpoint_dir
from geoagent_rl.policy.families.family import Family
from geoagent_rl.policy.families.gemma3 import Gemma3
from geoagent_rl.policy.families.internvl import InternVL
from geoagent_rl.policy.families.qwen2_5_vl import Qwen25VL
from geoagent_rl.policy.families.qwen3_5 import Qwen35
from geoagent_rl.policy.families.qwen3_vl import Qwen3VL
from geoagent_rl.types import UserError

FAMILIES: dict[str, Family] = {
    "qwen2_5_vl": Qwen25VL(),
    "qwen3_vl": Qwen3VL(),
    "qwen3_5": Qwen35(),
    "internvl": InternVL(),
    "gemma3": Gemma3(),
}


def family_named(model_type: str, where: str) -> Family:
    """Return a family. Raises UserError, which names `where`, for one that is not here."""
    if model_type not in FAMILIES:
        known = ", ".join(f"{family.title} ({name})" for name, family in FAMILIES.items())
        raise UserError(
            f"{where}: a policy of the kind {model_type or 'unnamed'} is not supported; there are {known}"
        )
    return FAMILIES[model_type]


def family_of(model: str) -> Family:
    """Return the family of a checkpoint, directory or hub name, by its config.json.

    Raises UserError where there is none or it is not supported."""
    try:
        config = json.loads((checkpoint_dir(model) / "config.json").read_text())
    except OSError as error:
        raise UserError(f"no policy model {model}: {str(error).splitlines()[0]}") from None
    return family_named(config.get("model_type", ""), model)


def check_learner(family: Family, config: Config) -> None:
    """Raise UserError for settings with which the family cannot learn."""
    if config.learner.share_prompts and not family.shares_prompts:
        raise UserError(
            f"learner.share_prompts=true: {family.title} has layers that carry a state from token to "
            "token, so completions behind one prompt would see each other; set it to false"
        )


def check_engine(family: Family, config: Config) -> None:
    """Raise UserError for settings with which the family cannot generate."""
    if config.rollout.swap == "adapter" and not family.adapter_swap:
        raise UserError(
            f"rollout.swap=adapter: what an engine holds of a {family.title}'s adapter cannot be checked; "
            "set it to merged"
        )
    if config.rollout.gpus_per_engine == 0 and family.no_cpu_engine:
        raise UserError(
            f"rollout.gpus_per_engine=0: {family.title} cannot generate on CPUs: "
            f"{family.no_cpu_engine}; give its engines GPUs"
        )
