"""Positions that cameras and phones write into photographs are read as people expect."""

import csv

import pytest
from PIL import Image

from geoagent_rl.data.importers.exif import gps
from geoagent_rl.data.importers.run import Options, import_dataset


def test_exif_positions_are_those_that_pillow_users_expect(shared_data, tmp_path):
    folder = shared_data / "exif_gps_images"
    with (folder / "expected_gps.csv").open() as file:
        expected = {
            r["file"]: (float(r["lat"]), float(r["lon"])) if r["lat"] else None
            for r in csv.DictReader(file)
        }
    for name, position in expected.items():
        found = gps(folder / name)
        assert found == pytest.approx(position, abs=1e-5) if position else found is None
    loaded = import_dataset(folder, tmp_path / "m.jsonl", Options("exif", copy=True))
    assert len(loaded.samples) == sum(p is not None for p in expected.values())
    assert loaded.rows == len(expected) and set(loaded.skipped) == {"no coordinates"}
    (tmp_path / "set").mkdir()
    for path in (folder / "OpenSfM__data__berlin__images__01.jpg", tmp_path / "phone.HEIC"):
        (tmp_path / "set" / path.name).write_bytes(path.read_bytes() if path.exists() else b"?")
    phone = import_dataset(tmp_path / "set", tmp_path / "set/m.jsonl", Options())
    assert (
        phone.skipped == {"cannot be read": 1}
        and "phone.HEIC: HEIC is not supported" in phone.warnings[0]
    )
    berlin = next(s for s in loaded.samples if "berlin" in s.uid)
    assert (berlin.country, berlin.region) == ("Germany", "State of Berlin")


def test_south_and_west_are_negative_and_nonsense_is_no_position(tmp_path):
    path = tmp_path / "a.jpg"
    for block, expected in (
        ({1: "S", 2: (33.0, 30.0, 36.0), 3: "W", 4: (70.0, 15.0, 0.0)}, (-33.51, -70.25)),
        ({2: (33.0, 30.0, 36.0)}, None),
        ({1: "N", 2: (233.0, 0.0, 0.0), 3: "E", 4: (7.0, 0.0, 0.0)}, "out of range"),
        ({1: "N", 2: (33.0, 75.0, 0.0), 3: "E", 4: (7.0, 0.0, 0.0)}, "60 minutes"),
        ({2: (22.0, 54.0, 0.0), 4: (43.0, 10.0, 0.0)}, "does not say its hemisphere"),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}, "void"),
        ({1: "N", 2: (8.0, 0.0, 0.0), 3: "E", 4: (7.0, 0.0, 0.0), 9: "V"}, "void"),
        ({}, None),
    ):
        exif = Image.Exif()
        exif.get_ifd(0x8825).update(block)
        Image.new("RGB", (4, 4)).save(path, exif=exif)
        found = gps(path)
        if isinstance(expected, str):
            assert isinstance(found, str) and expected in found
        else:
            assert found == pytest.approx(expected) if expected else found is None
    path.write_bytes(b"\xff\xd8 not an image")
    assert gps(path) is None
