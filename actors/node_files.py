"""Files that processes of one node hand to each other: for a moment, in shared memory where that
has room, or sockets while both live. May know the operating system only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "geoagent-files-"
FRESH_S = 60.0  # a directory this young may be about to be locked


@contextlib.contextmanager
def files_here(files: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a directory with `files`, name to bytes (or any buffer); it is gone afterwards."""
    with folder_here(roomy(sum(memoryview(data).nbytes for data in files.values()))) as folder:
        for file, data in files.items():
            (folder / file).write_bytes(memoryview(data))
        yield folder


@contextlib.contextmanager
def folder_here(root: Path | None = None) -> Iterator[Path]:
    """Yield an empty directory below `root` (default: the system's directory for temporary files);
    it is gone afterwards. What a process that was killed meanwhile left there goes too."""
    root = root or Path(tempfile.gettempdir())
    sweep(root)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=root) as name, locked(Path(name)):
        yield Path(name)


def roomy(size: int) -> Path:
    """Return shared memory where it has room for twice `size` (containers often have 64 MB, and
    Ray's objects lie there too), else the system's directory for temporary files."""
    writable = os.access(SHARED_MEMORY, os.W_OK)
    if writable and shutil.disk_usage(SHARED_MEMORY).free > 2 * size:
        return SHARED_MEMORY
    return Path(tempfile.gettempdir())


def sweep(root: Path) -> None:
    """Remove the directories whose process is gone: nobody holds their lock."""
    for left in root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another process removes it, or holds it
            if time.time() - left.stat().st_mtime > FRESH_S:
                with locked(left):
                    shutil.rmtree(left)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock, which ends with this process; OSError where another holds it."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
