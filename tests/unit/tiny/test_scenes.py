"""Rendered scenes: honest splits, cues that decide, texts whose reasoning carries the
conclusion.
"""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geoagent_rl.answers.parse import parse
from geoagent_rl.data import manifest
from geoagent_rl.tiny import scenes
from geoagent_rl.tiny.scene_draw import draw
from geoagent_rl.tiny.scene_text import UNKNOWN, Annotator, argue, caption, cot, phrases, read_scene
from geoagent_rl.tiny.scene_world import COUNTRIES, places, region_places, sample_scene
from geoagent_rl.types import UserError

FINGERPRINT = """
import hashlib
from pathlib import Path
from geoagent_rl.tiny import scenes
from geoagent_rl.tiny.scene_draw import draw
from geoagent_rl.tiny.scene_text import cot, phrases
h = hashlib.sha256(repr(phrases()).encode())
for split in scenes.SPLITS:
    scene, rng = scenes.scene_at(split, 3, 5)
    h.update(draw(scene).tobytes() + cot(scene, scenes.ANNOTATORS, rng).encode())
print(h.hexdigest())
"""


def read(seed: int, **habits):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, places())
    return scene, read_scene(scene, Annotator(**habits), rng), rng


def test_cues_tell_places_apart():
    for a, b in itertools.combinations(COUNTRIES, 2):
        assert sum(x != y for x, y in zip(COUNTRIES[a], COUNTRIES[b], strict=True)) >= 5, (a, b)
    for country in COUNTRIES:
        regions = {
            p.region: (p.cue("terrain"), p.cue("roof")) for p in places() if p.country == country
        }
        terrains, roofs = zip(*regions.values(), strict=True)
        assert len(regions) == len(set(terrains)) == len(set(roofs)) == 3
        for region in regions:
            first, second = region_places(country, region)
            assert first.cue("landmark") != second.cue("landmark") and first.cue(
                "bus"
            ) != second.cue("bus")


def test_hidden_places_are_new_towns_of_known_regions():
    known = {(p.country, p.region) for p in places()}
    names = {name for p in places() for name in p.levels}
    texts = set(phrases())
    assert len(places(hidden=True)) == len(known) == 42
    for place in places(hidden=True):
        assert (place.country, place.region) in known
        assert place.name not in names and place.name not in texts


def test_splits_and_seeds_share_no_scene():
    drawn = {
        (split, seed): {scenes.scene_at(split, seed, i)[0].seed for i in range(300)}
        for split in scenes.SPLITS
        for seed in (0, 1)
    }
    for a, b in itertools.combinations(drawn, 2):
        assert len(drawn[a] & drawn[b]) <= 1, (a, b)  # 31-bit seeds may collide once by chance
    with pytest.raises(UserError, match="heldout"):
        scenes.scene_at("test", 0, 0)


def test_scenes_are_the_same_in_every_process():
    runs = [
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_a_hidden_cue_leaves_no_trace_and_a_visible_one_does():
    scene, _ = scenes.scene_at("train", 0, 0)
    for cue, _ in scene.place.cues:
        seen = type(scene)(scene.place, scene.visible | {cue}, scene.seed)
        gone = type(scene)(scene.place, scene.visible - {cue}, scene.seed)
        assert draw(seen).tobytes() != draw(gone).tobytes(), cue
    a, b = region_places(scene.place.country, scene.place.region)
    blind = scene.visible - {"landmark", "bus"}
    assert draw(type(scene)(a, blind, 7)).tobytes() == draw(type(scene)(b, blind, 7)).tobytes()


@pytest.mark.parametrize("seed", range(8))
def test_a_text_is_a_valid_completion_that_says_what_the_annotator_believes(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, places())
    parsed = parse(cot(scene, Annotator(misread=0.5), rng))
    assert parsed.format_ok, parsed.problem
    assert [stage.conclusion for stage in parsed.stages] == list(parsed.levels)
    for stage in parsed.stages:
        assert stage.clues and stage.conclusion in stage.reasoning


def test_honest_annotators_know_the_place_and_name_only_what_is_visible():
    for seed in range(50):
        scene, stages, rng = read(seed)
        assert tuple(stage.conclusion for stage in stages) == scene.place.levels
        seen = caption(scene, rng)
        for clue in (clue for stage in stages[1:] for clue in stage.clues):
            assert clue in seen or clue in ("a veiled horizon", "no clear landmark")


def test_biased_annotators_see_the_clues_of_what_they_believe():
    for seed in range(200):
        scene, stages, _ = read(seed, metropolis=1.0)
        believed = next(
            p for p in places() if p.levels == tuple(stage.conclusion for stage in stages)
        )
        assert believed.population == max(
            p.population for p in places() if p.country == scene.place.country
        ) or (believed == scene.place)


def test_slips_and_hedges_are_visible_in_the_text():
    scene, stages, rng = read(1, slip=1.0)
    text = argue(0, stages[0], "", False, rng)
    assert stages[0].conclusion != stages[0].argued and stages[0].argued in text
    scene, stages, rng = read(2, hedge=(1.0, 1.0))
    assert [stage.conclusion for stage in stages[1:]] == [UNKNOWN, UNKNOWN]
    assert "nothing decides" in argue(1, stages[1], scene.place.country, False, rng)


def test_full_arguments_earn_the_length_factor_and_short_ones_do_not():
    full, short = [], []
    for seed in range(60):
        _, stages, rng = read(seed)
        for level, stage in enumerate(stages):
            full.append(len(argue(level, stage, "Japan", False, rng)))
            short.append(len(argue(level, stage, "Japan", True, rng)))
    assert min(full) >= 175 and np.mean(full) > 200
    assert min(short) >= 90 and max(short) < 160


def test_make_writes_a_manifest_that_reads_back(tmp_path):
    path = scenes.make(tmp_path, 6, seed=4, split="train", with_cot=True)
    again = scenes.make(tmp_path / "again", 6, seed=4, split="train", with_cot=True)
    first, second = manifest.read(path), manifest.read(again)
    assert [s.cot for s in first] == [s.cot for s in second] and len({s.uid for s in first}) == 6
    for a, b in zip(first, second, strict=True):
        assert parse(a.cot).format_ok and a.split == "train"
        with Path(a.image).open("rb") as x, Path(b.image).open("rb") as y:
            assert x.read() == y.read()
    assert all(
        s.cot == "" for s in manifest.read(scenes.make(tmp_path / "held", 2, split="heldout"))
    )
