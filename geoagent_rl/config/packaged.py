"""The configurations that come with the package, for a working directory that has none.

They are in configs/ of a checkout; a wheel installs them as data files (pyproject.toml)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

FOLDER = "configs"
MARK = f"share/geoagent-rl/{FOLDER}/local.yaml"


def packaged(path: Path) -> Path:
    """Return `path`, or what the package has under that name where nothing is there.

    Only relative paths that begin with configs/ are looked for in the package.
    """
    if path.exists() or path.is_absolute() or path.parts[:1] != (FOLDER,):
        return path
    found = next((root / path for root in _roots() if (root / path).exists()), None)
    return path if found is None else found


def _roots() -> list[Path]:
    """Return the folders that may hold configs/: the checkout's, the installation's."""
    try:
        files = metadata.files("geoagent-rl") or []
    except metadata.PackageNotFoundError:
        files = []
    marks = [Path(str(file.locate())) for file in files if file.as_posix().endswith(MARK)]
    return [Path(__file__).parents[2], *(mark.resolve().parents[1] for mark in marks)]
