"""What a run's numbers stand on besides its settings: prompts in their order, base weights, code.

A checkpoint holds the digests of them. On resuming, other prompts or other base weights are refused
(some photographs would be shown twice and others never; the adapter belongs to its base), unless
the user says so; other truths or other code are only said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from geoagent_rl.types import Prompt, UserError

SAMPLES, SAMPLE_BYTES = 16, 1 << 16  # of a weight file: reading tens of gigabytes takes minutes
GONE = "gone"  # in place of a digest: whatever a run stands on now, it is not this
ROOMS = ("geoagent_rl", "actors", "cluster")
MEANING = {
    "prompts": "the training photographs or run.seed",
    "base": "the base weights",
    "truths": "the places or files of the training photographs",
    "code": "the code",
}
SPOILS = {
    "prompts": "some photographs would be shown again and others never",
    "base": "the checkpoint's adapter belongs to others",
}


def origin_of(prompts: Sequence[Prompt], seed: int, base: Path | None = None) -> dict[str, str]:
    """Return the digests that a checkpoint keeps.

    base: the directory of the base checkpoint, where it is known already."""
    return {
        "prompts": _digest([str(seed), *(prompt.uid for prompt in prompts)]),
        "truths": _digest(f"{p.uid} {Path(p.image).name} {p.truth}" for p in prompts),
        "code": code_version(),
    } | ({"base": weights_digest(base)} if base else {})


def origin_kept(state: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests that a checkpoint's state keeps.

    One of before there were digests names the directory of its base: what lies there now counts."""
    found, base = dict(state.get("origin", {})), Path(state.get("base", ""))
    if "base" not in found and base.is_absolute():
        found["base"] = weights_digest(base) if base.is_dir() else GONE
    return found


def check_origin(before: Mapping[str, str], now: Mapping[str, str], accept: bool) -> list[str]:
    """Return one line for each thing that is otherwise than when a checkpoint was written.

    Raises UserError for what spoils the run, unless `accept`. What only one of them knows is passed
    over: older checkpoints have few digests."""
    known = [name for name in MEANING if name in before and (name in now or before[name] == GONE)]
    changed = [name for name in known if before[name] != now.get(name)]
    for name in changed:
        if name in SPOILS and not accept:
            raise UserError(
                f"{MEANING[name]} have changed since the checkpoint was written, so {SPOILS[name]};"
                " bring them back, start another run, or go on all the same with --accept-changes"
            )
    return [f"changed since the checkpoint was written: {MEANING[name]}" for name in changed]


def weights_digest(base: Path) -> str:
    """Return a digest of a checkpoint's weight files: names, sizes, and bytes from all over them.

    Any training changes it; a single changed byte need not."""
    return _digest(piece for file in sorted(base.glob("*.safetensors")) for piece in _pieces(file))


def _pieces(file: Path) -> Iterable[str]:
    size = file.stat().st_size
    yield f"{file.name} {size}"
    with file.open("rb") as data:
        for i in range(SAMPLES):
            data.seek(i * max(size - SAMPLE_BYTES, 0) // (SAMPLES - 1))
            yield hashlib.sha256(data.read(SAMPLE_BYTES)).hexdigest()


@cache
def code_version() -> str:
    """Return the package's version and a digest of the source files that are running."""
    folders = [Path(place) for room in ROOMS for place in _places(room)]
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return f"{version('geoagent-rl')}+{_digest(path.read_text('utf-8') for path in files)}"


def _places(room: str) -> Iterable[str]:
    spec = find_spec(room)
    return (spec.submodule_search_locations or ()) if spec else ()


def _digest(texts: Iterable[str]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for text in texts:
        found.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
    return found.hexdigest()
