"""`data contamination A B`: does training data A hold places or photographs of the evaluation set
B?

Places: rows nearer than a threshold on the ground. Photographs: perceptual hashes (64 bits of the
low frequencies of a 32 x 32 gray picture) that differ in a few bits at most, so copies that were
resized, recompressed or brightened are found; crops and mirror images are not. A and B are pools
(data/pools.py); without image files only places are compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.spatial import cKDTree

from geoagent_rl.data.images import BadImage, small_gray
from geoagent_rl.data.pools import Pool, open_pool, positions, texts
from geoagent_rl.geo.nearest import chord, unit_vectors
from geoagent_rl.types import UserError

RADII_KM = (1, 2, 5, 10, 20, 50, 100)  # of the table
ROWS_AT_ONCE = 4096  # of A, against all of B
EXAMPLES = 5


@dataclass(frozen=True)
class Side:
    """One data set, by row: coordinates (NaN where unusable), names for messages, hashes of
    photographs.
    """

    pool: Pool
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    uids: list[str]
    hashes: NDArray[np.uint64]
    hashed: NDArray[np.bool_]

    @property
    def placed(self) -> NDArray[np.int64]:
        """Return the rows that have a position on Earth."""
        return np.flatnonzero((np.abs(self.lat) <= 90) & (np.abs(self.lon) <= 180))


@dataclass(frozen=True)
class Overlap:
    """`rows` of A that overlap with B, by place or photograph, and the report."""

    rows: NDArray[np.int64]
    report: dict[str, Any]


def overlap(a: Side, b: Side, km: float = 1.0, bits: int = 6) -> Overlap:
    """Find what overlaps. km: rows of A nearer than this to a row of B overlap. bits: so many of 64
    bits of the hash may differ."""
    if not (len(a.placed) and len(b.placed)):
        empty = a if not len(a.placed) else b
        raise UserError(f"{empty.pool.path} has no usable coordinates")
    points_a, points_b = (unit_vectors(s.lat[s.placed], s.lon[s.placed]) for s in (a, b))
    tree_a, tree_b = cKDTree(points_a), cKDTree(points_b)
    nearest_b, _ = tree_a.query(points_b)  # for each of B the nearest of A
    chords_a, which_b = tree_b.query(points_a, distance_upper_bound=chord(km))
    near = np.isfinite(chords_a)
    pairs = same_photographs(a, b, bits)
    by_place, by_photo = a.placed[near], np.unique([i for i, _, _ in pairs]).astype(np.int64)
    near_examples = [
        f"{a.uids[i]} ~ {b.uids[b.placed[j]]}" for i, j in zip(by_place, which_b[near], strict=True)
    ]
    rows = np.union1d(by_place, by_photo)
    return Overlap(rows, {
        "a": {"rows": len(a.lat), "placed": len(a.placed), "photographs": int(a.hashed.sum())},
        "b": {"rows": len(b.lat), "placed": len(b.placed), "photographs": int(b.hashed.sum())},
        "b_with_a_neighbour_in_a": {str(r): int((nearest_b <= chord(r)).sum()) for r in RADII_KM},
        "km": km, "bits": bits,
        "a_near_b": len(by_place),
        "a_near_b_examples": near_examples[:EXAMPLES],
        "same_photograph_pairs": len(pairs),
        "same_photographs": [{"a": a.uids[i], "b": b.uids[j], "bits": d} for i, j, d in pairs[:1000]],
        "a_overlapping": len(rows),
    })  # fmt: skip


def read_side(path: Path, hashing: bool = True) -> Side:
    """Return coordinates, names and, where image files are there, their hashes. Raises
    UserError."""
    pool = open_pool(path)
    parts = [(lat, lon) for lat, lon, _ in positions(pool)]
    lat, lon = (
        np.concatenate([part[i] for part in parts]) if parts else np.empty(0) for i in (0, 1)
    )
    uids = [uid for batch in texts(pool, pool.uid) for uid in batch] if pool.uid else []
    uids = [uid or f"row {i}" for i, uid in enumerate(uids, 1)] or [
        f"row {i + 1}" for i in range(len(lat))
    ]
    hashes, hashed = np.zeros(len(lat), dtype=np.uint64), np.zeros(len(lat), dtype=bool)
    if hashing and pool.image:
        names = [name for batch in texts(pool, pool.image) for name in batch]
        with ThreadPoolExecutor(
            os.cpu_count()
        ) as threads:  # Pillow decodes outside the interpreter's lock
            for i, found in enumerate(threads.map(lambda name: _hash_of(pool.root, name), names)):
                if found is not None:
                    hashes[i], hashed[i] = found, True
    return Side(pool, lat, lon, uids, hashes, hashed)


def _hash_of(root: Path, name: str) -> int | None:
    if not name:
        return None
    path = next((p for p in (root / name, root / "images" / name) if p.is_file()), None)
    if path is None or not path.resolve().is_relative_to(root.resolve()):
        return None
    try:
        return perceptual_hash(path)
    except BadImage:
        return None


def perceptual_hash(path: str | Path) -> int:
    """Return 64 bits: which of the 8 x 8 lowest frequencies of the gray picture lie above their
    median. Raises BadImage."""
    gray = np.asarray(small_gray(path, 32), dtype=np.float64)
    low = dctn(gray, norm="ortho")[:8, :8].ravel()
    return int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big")


def same_photographs(a: Side, b: Side, bits: int) -> list[tuple[int, int, int]]:
    """Return (row of A, row of B, differing bits), likest first."""
    rows_a, rows_b = np.flatnonzero(a.hashed), np.flatnonzero(b.hashed)
    found: list[tuple[int, int, int]] = []
    for start in range(0, len(rows_a), ROWS_AT_ONCE):
        some = rows_a[start : start + ROWS_AT_ONCE]
        apart = np.bitwise_count(a.hashes[some][:, None] ^ b.hashes[rows_b][None, :])
        i, j = np.nonzero(apart <= bits)
        found += zip(some[i].tolist(), rows_b[j].tolist(), apart[i, j].tolist(), strict=True)
    return sorted(found, key=lambda pair: pair[2])


def show_overlap(report: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return the report in a few lines; `names` are what A and B are called."""
    a, b = report["a"], report["b"]
    lines = [
        f"{name}: {side['rows']} rows, {side['placed']} with coordinates, {side['photographs']} photographs compared"
        for name, side in zip(names, (a, b), strict=True)
    ]
    radii = ", ".join(f"{r} km {n}" for r, n in report["b_with_a_neighbour_in_a"].items())
    lines.append(f"rows of {names[1]} with a row of {names[0]} within: {radii}")
    lines.append(
        f"{report['a_near_b']} rows of {names[0]} are nearer than {report['km']:g} km to one of {names[1]}"
    )
    if report["a_near_b_examples"]:
        lines.append(f"  for example {'; '.join(report['a_near_b_examples'][:3])}")
    if a["photographs"] and b["photographs"]:
        pairs, bits = report["same_photographs"][:EXAMPLES], report["bits"]
        lines.append(
            f"{report['same_photograph_pairs']} pairs of photographs look the same (to {bits} of 64 bits)"
        )
        lines += [f"  {pair['a']} = {pair['b']} ({pair['bits']} bits)" for pair in pairs]
    else:
        lines.append("photographs were not compared: one side has no image files")
    return [*lines, f"{report['a_overlapping']} rows of {names[0]} overlap in all"]
