"""Make a manifest of a folder of photographs with one CSV (data/photos.py reads it)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from geoagent_rl.data import manifest
from geoagent_rl.data.images import DEFAULT_MAX_MEGAPIXELS


def import_photos(
    folder: str | Path,
    out: str | Path,
    copy: bool = False,
    max_image_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> manifest.Loaded:
    """Write the manifest `out` (.parquet or .jsonl) of a folder of photographs; returns what was
    read, with warnings.

    `out` lies in the photographs' folder or above it, unless `copy` is given: then the images are
    copied to an images/ folder beside `out`. Raises UserError."""
    loaded = manifest.load(folder, max_image_megapixels)
    samples = loaded.samples
    if copy:
        target = Path(out).resolve().parent / "images"
        target.mkdir(parents=True, exist_ok=True)
        samples = [
            replace(s, image=_copied(s.image, target, index)) for index, s in enumerate(samples)
        ]
    manifest.write(out, samples)
    manifest.log_warnings(loaded)
    return loaded


def _copied(image: str, target: Path, index: int) -> str:
    # The index keeps apart two photographs of one name from different folders.
    copy = target / f"{index:06d}_{Path(image).name}"
    shutil.copyfile(image, copy)
    return str(copy)
