"""Secrets: read from the environment or from files, never shown.

`NAME_FILE` names a file that holds the value of NAME (how container platforms hand out secrets);
NAME itself, where it is set, comes first. The configuration holds names only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from geoagent_rl.types import UserError

REDIS_PASSWORD = "REDIS_PASSWORD"
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")


def read_secret(environ: Mapping[str, str], name: str) -> str:
    """The value of NAME or the contents of the file NAME_FILE, without white space around it; ""
    where neither is set.

    Raises UserError when the file cannot be read or is empty.
    """
    if environ.get(name, "").strip():
        return environ[name].strip()
    file = environ.get(f"{name}_FILE", "")
    if not file:
        return ""
    try:
        value = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{name}_FILE={file} cannot be read: {getattr(error, 'strerror', '') or error}"
        ) from None
    if not value:
        raise UserError(f"{name}_FILE={file} is empty; write the value of {name} into it")
    return value


def names_a_secret(name: str) -> bool:
    """Whether an environment variable of this name probably holds a secret (and not the path of a
    file with one).
    """
    return bool(_SECRET.search(name.upper()))
