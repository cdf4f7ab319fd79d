"""Data sets of rendered street scenes: pictures, true places and, for SFT, annotators' chains of
thought.

Splits: "train" and "heldout" are different scenes of the same 84 places (disjoint random streams);
"hidden" are scenes of 42 other towns in the same countries and regions, of which no picture and no
name is ever in a training scene, so country and region can be told but not the town. All three are
reproducible from a seed. May know nothing of models."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from geoagent_rl.data import manifest
from geoagent_rl.data.sample import Sample
from geoagent_rl.tiny.scene_draw import draw
from geoagent_rl.tiny.scene_text import Annotator, cot
from geoagent_rl.tiny.scene_world import Place, Scene, places, sample_scene
from geoagent_rl.types import UserError

SPLITS = ("train", "heldout", "hidden")
# How the annotators of the SFT texts err (see the study in the README): they know the country but
# take most pictures for its best known region and town, and half of their arguments are short.
# Rewards, not texts, correct them.
ANNOTATORS = Annotator(
    metropolis=0.7, bigger=0.5, misread=0.05, hedge=(0.01, 0.03), slip=0.1, short=0.7
)
SOURCE = "rendered by geoagent_rl.tiny.scenes; places from GeoNames"
LICENCE = "Apache-2.0 (pictures), CC BY 4.0 (GeoNames)"


def scene_at(split: str, seed: int, index: int) -> tuple[Scene, np.random.Generator]:
    """Return scene number `index` of a split, and the generator for its texts. Splits and seeds
    never share a stream."""
    if split not in SPLITS:
        raise UserError(f"no split {split!r} of the scenes; choose one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([SPLITS.index(split), seed, index, 20260])
    return sample_scene(rng, places(hidden=split == "hidden")), rng


def make(
    out_dir: str | Path,
    n: int,
    seed: int = 0,
    split: str = "train",
    with_cot: bool = False,
    annotators: Annotator = ANNOTATORS,
) -> Path:
    """Draw `n` scenes into `out_dir` and write `manifest.parquet` there; return its path.

    `with_cot` adds the annotators' texts (only sensible for "train"). Pictures are JPEG, 168 x 168.
    """
    folder = Path(out_dir)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    samples = []
    for index in range(n):
        scene, rng = scene_at(split, seed, index)
        uid = f"{split}-{seed}-{index:06d}"
        image = folder / "images" / f"{uid}.jpg"
        draw(scene).save(image, quality=93, subsampling=0)
        text = cot(scene, annotators, rng) if with_cot else ""
        samples.append(_sample(uid, image, scene.place, text, split))
    return manifest.write(folder / "manifest.parquet", samples)


def _sample(uid: str, image: Path, place: Place, text: str, split: str) -> Sample:
    return Sample(
        uid=uid,
        image=str(image),
        country=place.country,
        region=place.region,
        place=place.name,
        lat=place.lat,
        lon=place.lon,
        cot=text,
        scene=place.cue("terrain"),
        source=SOURCE,
        licence=LICENCE,
        split=split,
    )


def places_table() -> str:
    """Return the table of places as it is in the package (for content hashes)."""
    return (resources.files("geoagent_rl") / "assets/scene_places.tsv").read_text(encoding="utf-8")
