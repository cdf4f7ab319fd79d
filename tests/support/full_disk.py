"""A disk that is full from its n-th write on: writes end half-way, and with them fsync, mkdir,
rename and symlink fail.

The bytes that fit are really there, as on a real disk; only what Python writes itself is reached.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class FullDisk:
    """Counts what asks the disk for room, and refuses from call number `room` on."""

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, 0

    def full(self) -> bool:
        """Count a call; whether the disk is full by now."""
        self.calls += 1
        return self.calls > self.room

    def check(self) -> None:
        """Raise OSError at the call that finds it full, whatever that wants: what follows, a name
        that is given back, has the room that it had.
        """
        if self.full() and self.calls == self.room + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def into(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of the machine's own."""
        disk, real_open = self, io.open

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                if disk.full():
                    super().write(bytes(data)[: len(data) // 2])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return super().write(data)

        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wax"):
                return real_open(file, mode, *args, **options)
            options.pop("buffering", None)
            raw = io.BufferedWriter(File(file, mode.replace("b", "").replace("t", "")))
            if "b" in mode:
                return raw
            names = ("encoding", "errors", "newline")
            return io.TextIOWrapper(raw, **{n: options[n] for n in names if n in options})

        def checked(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                disk.check()
                return real(*args, **options)

            return call

        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        patch.setattr(os, "fsync", checked(os.fsync))
        for name in ("mkdir", "replace", "symlink_to"):
            patch.setattr(Path, name, checked(getattr(Path, name)))


def files_below(folder: Path) -> dict[str, bytes]:
    """Return every file's bytes, and what links name, by path."""
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
