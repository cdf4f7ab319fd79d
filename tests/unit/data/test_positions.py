"""Positions and missing values in tables are read as people write them, or they are
named.
"""

import io
import json

import pytest
from PIL import Image

from geoagent_rl.data.importers.run import Options, import_dataset
from geoagent_rl.data.manifest import load


def jpeg(shade=0):
    data = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 90, 30)).save(data, "JPEG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("22.56S, 17.08E", (-22.56, 17.08)),
        ("33°51'35.9\"S 151°12'40\"E", (-33.85997, 151.21111)),
        ("POINT (11.575 48.137)", (48.137, 11.575)),
        ('{"type": "Point", "coordinates": [11.575, 48.137]}', (48.137, 11.575)),
        ("lng=11.575&lat=48.137", (48.137, 11.575)),
        ("481370000, 115750000", (48.137, 11.575)),
        ("48,137; 11,575", (48.137, 11.575)),
    ],
)
def test_every_way_of_writing_a_position_is_read_rightly(tmp_path, written, expected):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    rows = [{"image": "a.jpg", "gps": written}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = import_dataset(tmp_path / "t.jsonl", tmp_path / "m.jsonl", Options("photos"))
    (sample,) = loaded.samples
    assert (sample.lat, sample.lon) == pytest.approx(expected, abs=1e-4)


def test_a_position_that_cannot_be_read_is_named(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(ord(name)))
    rows = [{"image": "a.jpg", "gps": "1, 2"}, {"image": "b.jpg", "gps": "-33.9N, 18.4E"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = import_dataset(tmp_path / "t.jsonl", tmp_path / "m.jsonl", Options("photos"))
    assert loaded.skipped == {"position cannot be read": 1}
    assert any("-33.9N, 18.4E" in warning for warning in loaded.warnings)


def test_two_tables_in_a_folder_are_imported_with_their_splits(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.jpg").write_bytes(jpeg(len(split)))
        text = f"file,lat,lon,country\n{split}.jpg,48.1,11.5,Germany\n"
        (tmp_path / f"{split}.csv").write_text(text)
    loaded = import_dataset(tmp_path, tmp_path / "m.jsonl", Options())
    assert {sample.split for sample in loaded.samples} == {"train", "test"}


def test_one_missing_value_loses_its_row_alone(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(ord(name)))
    text = "file,lat,lon,country\na.jpg,NaN,NaN,Germany\nb.jpg,48.1,11.5,Germany\n"
    (tmp_path / "t.csv").write_text(text)
    loaded = load(tmp_path)
    assert [sample.uid for sample in loaded.samples] == ["b"]
    assert loaded.skipped == {"no coordinates": 1}


def test_photographs_without_names_get_those_of_the_nearest_town(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "t.csv").write_text("file,lat,lon\na.jpg,48.137,11.575\n")
    (sample,) = load(tmp_path).samples
    assert (sample.country, sample.region, sample.place) == ("Germany", "Bavaria", "Munich")
