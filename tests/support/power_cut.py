"""A disk that loses power: what was never synced may be lost, in any order.

POSIX promises that a file's bytes survive once the file was fsynced, and a name once its directory
was. `watch` notes both for one folder as the process syncs them. `cut` then brings the folder into
one of the states in which a power cut may leave it: each name that was not synced is there or not,
each file that was not synced has its old bytes, its new ones, none, or zeros in place of the new.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import stat
from pathlib import Path

NAMES, BYTES, LINKS = "names", "bytes", "links"  # folders of a shadow
Entries = dict[str, list[str]]  # name -> [kind, inode or the link's target]


def watch(folder: Path, shadow: Path) -> None:
    """Note in `shadow`, which must lie on the same file system, what this process syncs below
    `folder`."""
    make(shadow)
    real = os.fsync
    held = []  # open directories keep their inodes: a number that is used again means another

    def fsync(handle: int) -> None:
        real(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path == folder or folder in path.parents:
            if path.is_dir():
                held.append(os.open(path, os.O_RDONLY))
                note_names(path, shadow)
            else:
                note_bytes(path, shadow)

    os.fsync = fsync


def make(shadow: Path) -> None:
    """Its folders, where they are not there yet."""
    for name in (NAMES, BYTES, LINKS):
        (shadow / name).mkdir(parents=True, exist_ok=True)


def note_names(folder: Path, shadow: Path) -> None:
    """The directory's names are on disk from now on."""
    whole = shadow / NAMES / str(folder.stat().st_ino)
    aside = whole.with_suffix(".new")
    aside.write_text(json.dumps(entries(folder)))
    aside.replace(whole)


def note_bytes(file: Path, shadow: Path) -> None:
    """The file's bytes are on disk from now on. A hard link keeps its inode from being reused."""
    number = str(file.stat().st_ino)
    with contextlib.suppress(FileExistsError):
        (shadow / LINKS / number).hardlink_to(file)
    aside = shadow / BYTES / f"{number}.new"
    shutil.copyfile(file, aside)
    aside.replace(shadow / BYTES / number)


def entries(folder: Path) -> Entries:
    """Return a directory's names and what each stands for."""
    found: Entries = {}
    for path in folder.iterdir():
        mode = path.lstat()
        if stat.S_ISLNK(mode.st_mode):
            found[path.name] = ["link", str(path.readlink())]
        else:
            kind = "folder" if stat.S_ISDIR(mode.st_mode) else "file"
            found[path.name] = [kind, str(mode.st_ino)]
    return found


def cut(folder: Path, shadow: Path, chance: random.Random) -> None:
    """The power goes, and comes back: nobody may be writing in `folder`."""
    after = folder.with_name(folder.name + ".after")
    after.mkdir()
    rebuild(folder, folder.stat().st_ino, after, shadow, chance)
    shutil.rmtree(folder)
    after.rename(folder)
    shutil.rmtree(shadow)
    make(shadow)
    for path in (folder, *folder.rglob("*")):  # what came through is on disk
        if path.is_dir() and not path.is_symlink():
            note_names(path, shadow)
        elif not path.is_symlink():
            note_bytes(path, shadow)


def rebuild(now: Path | None, inode: int, into: Path, shadow: Path, chance: random.Random) -> None:
    """Fill `into` with what is left of a directory. now: where it is; None: it was removed."""
    note = shadow / NAMES / str(inode)
    synced: Entries = json.loads(note.read_text()) if note.exists() else {}
    current = entries(now) if now is not None else {}
    for name in sorted({*synced, *current}):
        old, new = synced.get(name), current.get(name)
        kept = new if old == new else chance.choice((old, new))
        if kept is None:
            continue
        kind, what = kept
        here = now / name if now is not None and kept == new else None
        if kind == "link":
            (into / name).symlink_to(what)
        elif kind == "file":
            (into / name).write_bytes(bytes_of(here, what, shadow, chance))
        else:
            (into / name).mkdir()
            rebuild(here, int(what), into / name, shadow, chance)


def bytes_of(now: Path | None, inode: str, shadow: Path, chance: random.Random) -> bytes:
    """Return what is left of a file's bytes."""
    known = shadow / BYTES / inode
    synced = known.read_bytes() if known.exists() else b""
    current = now.read_bytes() if now is not None else synced
    if current == synced:
        return synced
    unwritten = synced + bytes(max(0, len(current) - len(synced)))
    return chance.choice((synced, current, unwritten))
