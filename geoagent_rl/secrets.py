"""Secrets: read from the environment or from files, never shown.

`NAME_FILE` names a file that holds the value of NAME (how container platforms hand out secrets);
NAME itself, where it is set, comes first. The configuration holds names only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from geoagent_rl.types import UserError

REDIS_PASSWORD = "REDIS_PASSWORD"
# Words of a variable's name; of an address (REDIS_URL, DATABASE_DSN) only where it is a store's.
_WORDS = re.compile(
    r"(^|_)((API|ACCESS|SECRET|PRIVATE)?KEYS?|TOKEN|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|PASS|PAT"
    r"|CREDENTIALS?)(_|$)|_AUTH$|(REDIS|DATABASE|DB|POSTGRES|MONGO|AMQP|BROKER)_(URL|URI|DSN)$|_DSN$"
)
_PLACE = re.compile(r"_(FILE|PATH|DIR)$")  # says where a secret lies
# An address with a password, a private key, and the keys of services that begin with a mark.
_VALUES = re.compile(
    r"://[^/?#\s@]*@|[?&](password|username)=|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|^(hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-)[\w-]{16,}$|^A(KI|SI)A[0-9A-Z]{16}$"
    r"|^eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+$"
)


def read_secret(environ: Mapping[str, str], name: str) -> str:
    """Return the value of NAME or the contents of the file NAME_FILE, without white space around
    it; "" where neither is set.

    Raises UserError when the file cannot be read or is empty.
    """
    value = optional_secret(environ, name)
    if not value and (file := environ.get(f"{name}_FILE", "")):
        raise UserError(f"{name}_FILE={file} is empty; write the value of {name} into it")
    return value


def optional_secret(environ: Mapping[str, str], name: str) -> str:
    """Return what read_secret returns, and "" for an empty file: of a secret that may be missing.

    Raises UserError when the file cannot be read.
    """
    if environ.get(name, "").strip():
        return environ[name].strip()
    file = environ.get(f"{name}_FILE", "")
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{name}_FILE={file} cannot be read: {getattr(error, 'strerror', '') or error}"
        ) from None


def required_secret(environ: Mapping[str, str], name: str, setting: str) -> str:
    """Return read_secret's value; `setting` is the key that names it. Raises UserError where it is
    not set.
    """
    key = read_secret(environ, name)
    if not key:
        raise UserError(
            f"{setting} names {name}, which is not set; export it, or {name}_FILE, the path of a file that holds it, "
            "on every node before Ray starts there"
        )
    return key


def names_a_secret(name: str) -> bool:
    """Return whether an environment variable of this name probably holds a secret.

    A name that ends in _FILE, _PATH or _DIR says where a secret lies and is none."""
    return bool(_WORDS.search(name.upper())) and not _PLACE.search(name.upper())


def looks_secret(value: str) -> bool:
    """Return whether a value holds a password or is a key of a well-known form."""
    return bool(_VALUES.search(value))
