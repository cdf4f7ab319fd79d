"""docs/configuration.md from the configuration's own dataclasses and comments: one table per
section.

    python -m geoagent_rl.config.reference docs/configuration.md     (a test compares the file with what this writes)

A field's comment is what follows it on its line, with the comment lines below where that line was
full; comment lines above a field belong to the field."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import MISSING

from geoagent_rl.config import Config
from geoagent_rl.files import write_text

FULL_LINE = 100  # a comment on a line longer than this goes on in the comment lines below
HEAD = """# Configuration

Made by `python -m geoagent_rl.config.reference docs/configuration.md` from the dataclasses in `geoagent_rl/config.py`
and `geoagent_rl/config/reward.py`; do not edit it. A run's configuration is these defaults, then a YAML file
(`--config`), then dotted overrides: `geoagent-rl train --config configs/local.yaml steps=20 rollout.group_size=4`. An
unknown key is an error that names the nearest one. `configs/` holds complete examples. Keys and passwords never go in
here, only the names of the environment variables that hold them.
"""


def reference() -> str:
    """The whole page, Markdown."""
    return HEAD + "".join(section(Config, ""))


def section(kind: type, prefix: str) -> list[str]:
    """The table of one dataclass and, after it, those of the dataclasses inside."""
    notes, inner, lines = comments(kind), [], []
    for field in dataclasses.fields(kind):
        declared = get_type_hints(kind)[field.name]
        if dataclasses.is_dataclass(declared):
            inner += section(declared, f"{prefix}{field.name}.")
        else:
            cells = (
                f"`{prefix}{field.name}`",
                _type(declared),
                f"`{_default(field)}`",
                notes.get(field.name, ""),
            )
            lines.append(
                "| "
                + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells)
                + " |"
            )
    title = f"\n## {prefix.rstrip('.') or 'Top level'}\n\n"
    about = (
        ""
        if (kind.__doc__ or "").startswith(f"{kind.__name__}(")
        else f"{inspect.getdoc(kind)}\n\n"
    )
    head = "| key | type | default | meaning |\n|---|---|---|---|\n"
    return [title + about + head + "\n".join(lines) + "\n" if lines else "", *inner]


def comments(kind: type) -> dict[str, str]:
    """Field name -> its comment as one line."""
    source = inspect.getsource(kind).splitlines()
    fields = {
        node.lineno - 1: node.target.id
        for node in ast.parse("\n".join(source)).body[0].body
        if isinstance(node, ast.AnnAssign)
    }
    found: dict[str, str] = {}
    waiting: list[str] = []  # comment lines whose field has not come yet
    goes_on = ""  # the field whose comment may go on in the next line
    for number, line in enumerate(source):
        said = re.search(r"(?:^|\s)#\s?(.*)$", line)
        if number in fields:
            name = fields[number]
            found[name] = " ".join([*waiting, said.group(1).strip()] if said else waiting)
            waiting, goes_on = [], name if said and len(line) > FULL_LINE else ""
        elif line.strip().startswith("#") and said:
            if goes_on:
                found[goes_on] += f" {said.group(1).strip()}"
            else:
                waiting.append(said.group(1).strip())
        else:
            waiting, goes_on = [], ""
    return found


def _default(field: dataclasses.Field) -> str:
    value: Any = field.default_factory() if field.default is dataclasses.MISSING else field.default
    if value == MISSING:
        return "must be given"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    return '""' if value == "" else str(value)


def _type(declared: Any) -> str:
    name = getattr(declared, "__name__", str(declared))
    return "list" if name in ("tuple", "list") else {"Any": "name or list"}.get(name, name)


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), reference())
