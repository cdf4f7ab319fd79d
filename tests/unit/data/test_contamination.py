"""Overlap of training and evaluation data is found by place and by picture; chains of thought are
checked.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance
from typer.testing import CliRunner

from cluster.cli.local import app
from geoagent_rl.answers.parse import NO_STAGE, Stage, render
from geoagent_rl.data.contamination import overlap, perceptual_hash, read_side, same_photographs
from geoagent_rl.data.cot_check import check_chains
from geoagent_rl.data.manifest import load
from geoagent_rl.data.sample import Sample
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.tiny.scenes import make


def test_copies_are_found_and_no_two_of_47_street_views_are_taken_for_one(shared_data, tmp_path):
    (tmp_path / "eval").mkdir()
    originals = sorted((shared_data / "osv5m_streetview/images").glob("*.jpg"))[:4]
    changes = (
        lambda im: im.resize((im.width // 3, im.height // 3)),
        lambda im: ImageEnhance.Brightness(im).enhance(1.15),
        lambda im: im.convert("L").convert("RGB"),
        lambda im: im,
    )
    lines = ["id,file,lat,lon"]
    for path, change in zip(originals, changes, strict=True):
        change(Image.open(path).convert("RGB")).save(
            tmp_path / "eval" / f"copy{path.stem}.jpg", quality=70
        )
        lines.append(f"copy{path.stem},copy{path.stem}.jpg,0,0")
    (tmp_path / "eval/t.csv").write_text("\n".join(lines) + "\n")
    train, held = (
        read_side(shared_data / "osv5m_streetview/metadata.csv"),
        read_side(tmp_path / "eval/t.csv"),
    )
    pairs = same_photographs(train, held, 6)
    assert {(train.uids[i], held.uids[j]) for i, j, _ in pairs} == {
        (p.stem, f"copy{p.stem}") for p in originals
    }
    assert [(i, j) for i, j, _ in same_photographs(train, train, 6)] == [(i, i) for i in range(47)]


def test_distances_against_brute_force_on_real_coordinates(shared_data):
    gallery = read_side(shared_data / "mp16_gps_gallery/coordinates.csv")
    test_set = read_side(shared_data / "im2gps_predictions/im2gps_meta.csv")
    found = overlap(gallery, test_set, km=5.0)
    km = haversine_km(
        gallery.lat[:, None], gallery.lon[:, None], test_set.lat[None, :], test_set.lon[None, :]
    )
    assert found.rows.tolist() == np.flatnonzero((km <= 5).any(axis=1)).tolist()
    assert found.report["b_with_a_neighbour_in_a"] == {
        str(r): int((km <= r).any(axis=0).sum()) for r in (1, 2, 5, 10, 20, 50, 100)
    }
    assert len(found.rows) > 100 and found.report["same_photograph_pairs"] == 0


def test_the_command_writes_what_is_clean(shared_data, tmp_path):
    csv = shared_data / "osv5m_streetview/metadata.csv"
    half = tmp_path / "half.csv"
    half.write_text("".join(csv.read_text().splitlines(keepends=True)[:11]))
    words = ["data", "contamination", str(csv), str(half), "--clean", str(tmp_path / "clean.csv")]
    done = CliRunner().invoke(app, [*words, "--json"])
    report = json.loads(done.stdout)
    assert (report["a_overlapping"], report["a_near_b"]) == (10, 10)
    assert len((tmp_path / "clean.csv").read_text().splitlines()) == 1 + 37
    assert "photographs were not compared" in CliRunner().invoke(app, words).stdout


def test_photographs_inside_a_table_are_not_taken_for_paths(tmp_path):
    rows = pa.Table.from_pylist(
        [{"image": {"bytes": b"x", "path": "a.jpg"}, "lat": 1.0, "lon": 2.0}]
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    side = read_side(tmp_path / "a.parquet")
    assert not side.hashed.any() and side.uids == ["row 1"]


def test_a_flat_picture_has_a_hash_too(tmp_path):
    Image.new("RGB", (50, 50), (200, 200, 200)).save(tmp_path / "flat.png")
    assert 0 <= perceptual_hash(tmp_path / "flat.png") < 2**64


@pytest.fixture
def chain():
    def make(levels=("France", "Île-de-France", "Paris"), conclusions=None, text="x" * 120):
        stages = tuple(Stage(("sign",), text, c, "Low") for c in conclusions or levels)
        return Sample(
            "1", "a.jpg", "France", "Ile-de-France", "Paris", 48.9, 2.3, render(stages, levels)
        )

    return make


def test_sound_chains_pass_and_each_fault_has_its_name(chain):
    other_words = chain(conclusions=("Frankreich", "Ile de France", "Paris"))
    assert check_chains([chain(), other_words]).faults == []
    for sample, fault in (
        (
            chain(conclusions=("Italy", "Île-de-France", "Paris")),
            "the conclusion on the country is not the answer's",
        ),
        (chain(("France", "Normandy", "Paris")), "the answer's region is not the true one"),
        (chain(text="short"), "reasoning on the place is shorter than 90 characters"),
        (Sample("2", "a.jpg", "", "", "", 0, 0, "Paris, I think"), "no chain: no tags"),
    ):
        checked = check_chains([sample])
        assert fault in dict(checked.faults) and checked.passed == []
    nothing = check_chains([Sample("3", "a.jpg", "", "", "", 0, 0)])
    assert nothing.report["with_cot"] == 0 and not nothing.faults


def test_a_chain_that_leaves_out_a_stage_is_sound_and_its_length_is_not_counted():
    stage = Stage(("sign",), "x" * 120, "France", "Low")
    text = render((stage, NO_STAGE, NO_STAGE), ("France", "", ""))
    checked = check_chains([Sample("1", "a.jpg", "France", "Normandy", "Rouen", 49.4, 1.1, text)])
    assert (len(checked.passed), checked.faults) == (1, [])
    assert set(checked.report["reasoning_characters"]) == {"country"}
    assert checked.report["uncertainty"] == {"Low": 1}


def test_rendered_scenes_have_sound_chains(tmp_path):
    path = make(tmp_path / "scenes", 24, 0, "train", with_cot=True)
    checked = check_chains(load(path).samples)
    assert checked.report["with_cot"] == 24
    assert not [what for what, _ in checked.faults if "stages" in what or "format" in what]
    assert set(checked.report["reasoning_characters"]) == {"country", "region", "place"}
