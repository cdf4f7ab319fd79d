"""Files and directories that are whole or absent: nobody ever meets half of one, also after a kill.

Everything is written beside its final place, under NAME.<random>.part, and takes its name when it
is complete. A failure removes what was written; a kill leaves a .part, which `sweep` removes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

UNFINISHED = ".part"


@contextlib.contextmanager
def file_at_once(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield the path of a file to write; it replaces `path` when the block ends without an error.

    Its bytes are on disk before it takes the name. durable: the name is too when this returns, so
    that not even a power cut brings the old file back."""
    part = _aside(path)
    try:
        yield part
        flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    if durable:
        flush(path.parent)


@contextlib.contextmanager
def directory_at_once(path: Path, durable: bool = False, replace: bool = True) -> Iterator[Path]:
    """Yield a new directory to fill; it becomes `path` when the block ends without an error.

    durable: every file is on disk before the directory takes its name, and the name when this
    returns. replace: False keeps a `path` that somebody else has made meanwhile."""
    part = _aside(path)
    part.mkdir(parents=True)
    try:
        yield part
        if durable:
            flush_below(part)
        if replace or not path.exists():
            _put_in_place(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if durable:
        flush(path.parent)


def write_bytes(path: Path, data: bytes, durable: bool = False) -> None:
    """Write a file so that a reader sees the old bytes or the new, never half."""
    with file_at_once(path, durable) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Write a UTF-8 file so that a reader sees the old text or the new, never half."""
    write_bytes(path, text.encode("utf-8"), durable)


def write_json(path: Path, value: Any, durable: bool = False) -> None:
    """Write a JSON file, indented, so that a reader sees the old value or the new, never half."""
    write_text(path, json.dumps(value, indent=1) + "\n", durable)


def parse_json(text: str | bytes, strict: bool = True) -> Any:
    """Return the value of a JSON text that others have written. Raises ValueError for whatever is
    wrong with it, also for a depth that Python's parser cannot follow.

    strict: False takes raw line breaks in strings."""
    try:
        return json.loads(text, strict=strict)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def keep_lines(path: Path, wanted: Callable[[bytes], bool]) -> None:
    """Write a file anew with those of its lines that are `wanted`.

    One line at a time: the rollouts of a long run are gigabytes."""
    with file_at_once(path) as part, path.open("rb") as lines, part.open("wb") as kept:
        kept.writelines(line for line in lines if wanted(line))


def remove_at_once(folder: Path) -> None:
    """Remove a directory so that nobody meets half of it, also after a power cut."""
    aside = _aside(folder)
    folder.replace(aside)
    flush(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def sweep(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; only where nobody is writing it now."""
    _remove(path.parent.glob(f"{path.name}.*{UNFINISHED}"))


def sweep_all(folder: Path) -> None:
    """Remove what killed writers of anything right in `folder` left there."""
    _remove(folder.glob(f"*{UNFINISHED}"))


def _remove(parts: Iterable[Path]) -> None:
    for part in parts:
        shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()


def flush(path: Path) -> None:
    """Put a file's bytes, or a directory's entries, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_below(folder: Path) -> None:
    """Put a directory and everything in it on disk."""
    for inside in (*folder.rglob("*"), folder):
        flush(inside)


def _put_in_place(part: Path, path: Path) -> None:
    """Give a directory its name; the one that had it goes only when that is done."""
    old = _aside(path)
    with contextlib.suppress(FileNotFoundError):
        path.replace(old)
    try:
        part.replace(path)
    except OSError:
        if old.exists():
            old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _aside(path: Path) -> Path:
    if not path.name:  # "" or "/"
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
