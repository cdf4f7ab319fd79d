"""docs/configuration.md from the configuration itself: one table per section.

python -m geoagent_rl.config.reference docs/configuration.md     (a test compares the two)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from geoagent_rl.config.describe import Schema, json_schema
from geoagent_rl.config.messages import shown, words
from geoagent_rl.files import write_text

HEAD = """# Configuration

Made by `python -m geoagent_rl.config.reference docs/configuration.md` from the sections in
`geoagent_rl/config/`; do not edit it. A run's configuration is these defaults, then a YAML file
(`--config`), then dotted overrides: `geoagent-rl train --config configs/local.yaml steps=20
rollout.group_size=4`. `configs/` holds complete examples.

- An unknown key is an error that names the nearest one, and a value out of range one that names
  both. `geoagent-rl config schema > geoagent-rl.schema.json` writes a JSON schema with which
  editors check and complete a file
  (`# yaml-language-server: $schema=geoagent-rl.schema.json` as its first line).
- A key of type text takes what is written, letter by letter: `run.dir=010`, `on` and `12:30` are
  names. In a path `~` is your home directory.
- `${section.key}` takes the value of another key. Nothing is taken from the environment. Keys and
  passwords never go in here, only the names of the environment variables that hold them.
"""


def reference() -> str:
    """Return the whole page as Markdown."""
    return HEAD + "".join(section(json_schema(), "Top level", ""))


def section(schema: Schema, title: str, prefix: str) -> list[str]:
    """Return the table of one section and, after it, those of the sections inside."""
    rows, inner = [], []
    for name, node in schema["properties"].items():
        own = node.get("additionalProperties") or node.get("items") or {}
        if "properties" in node:
            inner += section(node, f"{prefix}{name}", f"{prefix}{name}.")
        elif "properties" in own:
            each = f"{prefix}{name}.{'NAME' if node['type'] == 'object' else 'N'}"
            inner += section(own, each, f"{each}.")
        if node.get("type") != "object":
            required = name in schema.get("required", ()) or f"{prefix}{name}" == "data.manifest"
            default = "must be given" if required else f"`{written(node['default'])}`"
            cells = (f"`{prefix}{name}`", words(node), node.get("unit", ""), default)
            rows.append(row(*cells, node.get("description", "")))
    head = "| key | value | unit | default | meaning |\n|---|---|---|---|---|\n"
    about = f"\n## {title}\n\n{schema['description']}\n\n"
    return [about + head + "".join(rows) if rows else "", *inner]


def row(*cells: str) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(c.replace("|", "\\|").replace("<", "&lt;") for c in cells) + " |\n"


def written(value: Any) -> str:
    """Return a default as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else shown(value)


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), reference())
