"""The prompts of policy.system_prompt and policy.user_prompt: names and files become their texts.

Done once, where a run starts: its configuration then holds the texts, so that resuming it, other
nodes and the report need no file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from geoagent_rl.config import Config
from geoagent_rl.policy.form_prompts import form_prompt
from geoagent_rl.policy.prompt import SYSTEM_PROMPTS
from geoagent_rl.types import UserError


def with_prompts(config: Config) -> Config:
    """Return the configuration with the texts of its prompts.

    Raises UserError for a file that cannot be read and for a single word that names no prompt.
    """
    policy = config.policy
    system = policy.system_prompt
    if system == "form":
        system = "full" if policy.answer == "levels" else form_prompt(policy.answer)
    system = text_of(system, "policy.system_prompt")
    if system not in SYSTEM_PROMPTS and len(system.split()) == 1:
        names = ", ".join([*SYSTEM_PROMPTS, "form"])
        raise UserError(f"policy.system_prompt={system}: write {names}, a .txt file or a text")
    user = text_of(policy.user_prompt, "policy.user_prompt")
    policy = dataclasses.replace(policy, system_prompt=system, user_prompt=user)
    return dataclasses.replace(config, policy=policy)


def text_of(value: str, key: str) -> str:
    """Return the text of a file that ends in .txt; anything else is the text itself."""
    if not value.endswith(".txt") or "\n" in value:
        return value
    try:
        text = Path(value).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key}: {value} cannot be read: {error}") from None
    if not text:
        raise UserError(f"{key}: {value} is empty")
    return text
