"""Other people's datasets become manifests: each layout as its publisher writes it, and every lost
row is counted.
"""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geoagent_rl.answers.parse import STAGES, parse
from geoagent_rl.data.importers.kinds import read_mapping
from geoagent_rl.data.importers.run import Options, import_dataset
from geoagent_rl.data.importers.swift import export_swift
from geoagent_rl.data.manifest import load, read
from geoagent_rl.types import UserError

LONG = "The script on the signs, the plates and the poles all belong to this place and to no other in the world."


def jpeg(shade=0):
    data = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 90, 30)).save(data, "JPEG")
    return data.getvalue()


def chain(*conclusions, answer=True):
    stages = {name: {"Clues": ["sign"], "Reasoning": LONG, "Conclusion": c, "Uncertainty": "Low"}
              for name, c in zip(STAGES, conclusions, strict=True)}  # fmt: skip
    return {"ChainOfThought": stages} | ({"FinalAnswer": "; ".join(conclusions)} if answer else {})


def geoseek_rows():
    """As Fig. 10 of the paper describes them: a fenced JSON chain, a tagged solution, scores,
    classes, lat and lng.
    """
    cot = json.dumps(chain("Kenya", "Kwale", "Diani"))
    good = {"image": {"bytes": jpeg(1), "path": "a.jpg"}, "solution": "<answer> Kenya; Kwale; Diani </answer>",
            "Locatability Score": 6.5, "cls": "sign", "lat": -4.3, "lng": 39.6,
            "cot": f"```json\n{cot}\n```"}  # fmt: skip
    return [
        good,
        {
            **good,
            "image": {"bytes": jpeg(2), "path": "b.jpg"},
            "solution": "Kenya; Kwale;",
            "cot": "I think Kenya",
        },
        {**good, "image": {"bytes": b"<html>", "path": "c.jpg"}},
        {**good, "image": {"bytes": jpeg(4), "path": "d.jpg"}, "lat": 94.3},
        {**good, "image": {"bytes": jpeg(5), "path": "e.jpg"}, "lng": None},
        {**good, "image": {"bytes": jpeg(6), "path": "a.jpg"}},
    ]


def write_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_arrow(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    (path.parent / "state.json").write_text("{}")
    (path.parent / "dataset_info.json").write_text('{"features": {}}')


@pytest.mark.parametrize(("save", "name"), [(write_parquet, "data/train-00000-of-00001.parquet"),
                                            (write_arrow, "train/data-00000-of-00001.arrow")])  # fmt: skip
def test_geoseek_as_a_hugging_face_folder_with_photographs_inside(tmp_path, save, name):
    save(tmp_path / "hf" / name, geoseek_rows())
    loaded = import_dataset(tmp_path / "hf", tmp_path / "out/manifest.parquet", Options())
    assert loaded.notes[0] == "read as geoseek"
    assert loaded.rows == 6 == len(loaded.samples) + sum(loaded.skipped.values())
    assert loaded.skipped == {"photograph's bytes are no known image format": 1, "uid used twice": 1,
                              "coordinates out of range": 1, "no coordinates": 1}  # fmt: skip
    a, b = read(tmp_path / "out")
    assert (a.uid, a.lat, a.lon, a.locatability, a.scene, a.split) == (
        "a",
        -4.3,
        39.6,
        6.5,
        "sign",
        "train",
    )
    assert a.prompt().truth.levels == ("Kenya", "Kwale", "Diani") and a.source == "GeoSeek"
    parsed = parse(a.cot)
    assert parsed.format_ok and parsed.levels == ("Kenya", "Kwale", "Diani")
    assert [s.conclusion for s in parsed.stages] == ["Kenya", "Kwale", "Diani"]
    assert (b.place, b.cot) == ("Ukunda", "")  # the nearest town
    assert any(
        "1 CoT texts cannot be read and are left out (first: " in line for line in loaded.warnings
    )
    assert any("1 of 6 rows left out, uid used twice (first: " in line for line in loaded.warnings)
    with Path(a.image).open("rb") as file:
        assert file.read() == jpeg(1)


def test_a_chain_of_thought_in_columns_of_its_own_and_without_final_answer(tmp_path):
    row = {"picture": jpeg(3), "Country": "Peru", "state": "Lima", "city": "Lima", "y": -12.0, "x": -77.0,
           "reasoning": chain("Peru", "Lima", "Lima", answer=False)}  # fmt: skip
    write_parquet(tmp_path / "p.parquet", [row])
    mapping = read_mapping(["image=picture", "lat=y", "lon=x", "cot=reasoning"])
    loaded = import_dataset(
        tmp_path / "p.parquet", tmp_path / "m.jsonl", Options("geoseek", mapping)
    )
    assert (
        parse(loaded.samples[0].cot).levels == ("Peru", "Lima", "Lima")
        and parse(loaded.samples[0].cot).format_ok
    )
    for item, message in (
        ("lat", "OURS=THEIRS"),
        ("size=x", "size is none of uid, image"),
        ("lat=z", "no column z"),
    ):
        with pytest.raises(UserError, match=message):
            import_dataset(
                tmp_path / "p.parquet",
                tmp_path / "m.jsonl",
                Options("geoseek", read_mapping([item])),
            )


@pytest.mark.parametrize(
    ("column", "gps"),
    [
        ("GPS", "-12.05, -77.04"),
        ("GPS", [-12.05, -77.04]),
        ("GPS", {"lat": -12.05, "lng": -77.04}),
        ("position", "(-12.05,-77.04)"),
        ("geometry", "POINT (-77.04 -12.05)"),
    ],
)
def test_a_position_and_three_levels_in_one_column_each(tmp_path, column, gps):
    row = {
        "images": [{"bytes": jpeg(1), "path": "a.jpg"}],
        column: gps,
        "location": "Peru; Lima; Lima",
        "cot": "",
    }
    write_parquet(tmp_path / "p.parquet", [row])
    (sample,) = import_dataset(
        tmp_path / "p.parquet", tmp_path / "m.jsonl", Options("geoseek")
    ).samples
    assert (sample.lat, sample.lon) == (-12.05, -77.04)
    assert sample.prompt().truth.levels == ("Peru", "Lima", "Lima")


def test_a_position_that_is_none_is_counted(tmp_path):
    rows = [
        {"image": {"bytes": jpeg(i), "path": f"{i}.jpg"}, "GPS": gps}
        for i, gps in enumerate(("1, 2", "unknown"))
    ]
    write_parquet(tmp_path / "p.parquet", rows)
    loaded = import_dataset(tmp_path / "p.parquet", tmp_path / "m.jsonl", Options("geoseek"))
    assert loaded.skipped == {"no coordinates": 1} and len(loaded.samples) == 1


def test_any_other_table_with_coordinates(tmp_path):
    rows = [
        {"key": i, "picture": jpeg(i), "latitude": 1.5, "longitude": 10.0 + i, "state": "Centre"}
        for i in range(3)
    ]
    write_parquet(tmp_path / "set/t.parquet", rows)
    mapping = read_mapping(["image=picture"])
    loaded = import_dataset(tmp_path / "set", tmp_path / "out/m.jsonl", Options(mapping=mapping))
    assert loaded.notes[0] == "read as photos" and [s.uid for s in loaded.samples] == [
        "0",
        "1",
        "2",
    ]
    assert loaded.samples[2].lon == 12 and loaded.samples[0].region == "Centre"


@pytest.fixture
def photo(tmp_path):
    def make(name):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(len(name)))
        return path

    return make


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_osv5m_as_published(tmp_path, photo):
    photo("images/test/00/77.jpg"), photo("images/test/01/78.jpg")
    row = {"id": 77, "latitude": 48.1, "longitude": 11.6, "thumb_original_url": "", "country": "DE",
           "region": "Bavaria", "sub-region": "Upper Bavaria", "city": "", "land_cover": 1.0}  # fmt: skip
    write_csv(
        tmp_path / "set/test.csv", [row, {**row, "id": 78, "latitude": ""}, {**row, "id": 79}]
    )
    loaded = import_dataset(tmp_path / "set", tmp_path / "set/manifest.jsonl", Options())
    assert loaded.notes[0] == "read as osv5m"
    assert loaded.skipped == {"no coordinates": 1, "image missing": 1}
    again = import_dataset(tmp_path / "set", tmp_path / "set/manifest.jsonl", Options("osv5m"))
    assert again.samples == loaded.samples and again.rows == 3  # not of the manifest written before
    (sample,) = loaded.samples
    assert sample.prompt().truth.levels == ("Germany", "Bavaria", "Upper Bavaria")
    assert (sample.uid, sample.split, sample.licence) == ("77", "test", "CC BY-SA 4.0")


def test_the_real_osv5m_photographs(shared_data, tmp_path):
    loaded = import_dataset(
        shared_data / "osv5m_streetview", tmp_path / "out/manifest.parquet", Options(copy=True)
    )
    assert (len(loaded.samples), loaded.rows, loaded.notes[0]) == (47, 47, "read as osv5m")
    (bamako,) = (s for s in loaded.samples if s.uid == "1139006019900435")
    assert bamako.prompt().truth.levels == ("Mali", "Segou", "Baroueli")
    assert bamako.licence == "CC BY-SA 4.0" and bamako.source == "osv5m game/select.csv@0a7efba"


@pytest.mark.parametrize(
    ("file", "kind"), [("mp16_places365.csv", "mp16"), ("im2gps3k_places365.csv", "im2gps")]
)
def test_mp16_and_im2gps_tables_get_scene_classes_and_the_nearest_towns_names(
    tmp_path, photo, file, kind
):
    photo("images/d1_82_95.jpg"), photo("images/left_over.jpg")
    row = {
        "IMG_ID": "d1_82_95.jpg",
        "AUTHOR": "x",
        "LAT": 48.8584,
        "LON": 2.2945,
        "S3_Label": 2,
        "Prob_indoor": 0.1,
    }
    write_csv(tmp_path / "set" / file, [row])
    loaded = import_dataset(tmp_path / "set", tmp_path / "m.jsonl", Options())
    assert loaded.notes[0] == f"read as {kind}"
    (sample,) = loaded.samples
    assert (sample.uid, sample.scene, sample.country) == ("d1_82_95", "urban", "France")
    assert any(
        "1 images without a row are left out (first: left_over.jpg)" in line
        for line in loaded.warnings
    )
    assert any("nearest town" in note for note in loaded.notes)
    bare = import_dataset(tmp_path / "set", tmp_path / "m.jsonl", Options(fill_names=False))
    assert bare.samples[0].country == ""


def test_geocomp_by_its_panoramas(tmp_path, photo):
    photo("pano_1.jpg")
    rows = [{"panoId": "pano_1", "lat": 35.7, "lng": 139.7, "country": "JP", "locatability": 3}]
    (tmp_path / "set/train.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in rows) + "{broken\n[1]\n"
    )
    loaded = import_dataset(tmp_path / "set", tmp_path / "m.jsonl", Options())
    assert (loaded.notes[0], loaded.rows, loaded.skipped) == (
        "read as geocomp",
        3,
        {"cannot be read": 2},
    )
    assert loaded.samples[0].country == "Japan" and loaded.samples[0].locatability == 3
    said = "2 of 3 rows left out, cannot be read (first: train.jsonl, row 2: is not JSON"
    assert any(said in warning for warning in loaded.warnings)


def test_ms_swift_there_and_back(tmp_path, photo):
    think = json.dumps(chain("Kenya", "Kwale", "Diani", answer=False))
    cot = f"<think>{think}</think><answer>Kenya; Kwale; Diani</answer>"
    path = photo("a.jpg")
    row = {"uid": "1", "image": "a.jpg", "lat": -4.3, "lon": 39.6, "country": "Kenya", "region": "Kwale",
           "place": "Diani", "cot": cot, "locatability": 6.0, "scene": "sign", "licence": "CC0"}  # fmt: skip
    photo("b.jpg")
    other = {"uid": "2", "image": "b.jpg", "lat": 1, "lon": 2, "country": "Gabon"}
    (path.parent / "manifest.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(other) + "\n")
    before = read(path.parent)
    assert export_swift(path.parent, path.parent / "swift.jsonl") == 2
    said = [json.loads(line) for line in (path.parent / "swift.jsonl").read_text().splitlines()]
    assert [turn["role"] for turn in said[0]["messages"]] == ["system", "user", "assistant"]
    assert said[0]["messages"][1]["content"].startswith("<image>") and len(said[1]["messages"]) == 2
    loaded = import_dataset(path.parent / "swift.jsonl", path.parent / "again.jsonl", Options())
    assert loaded.samples == before and loaded.notes[0] == "read as swift"


def test_training_rows_of_the_papers_authors_have_no_coordinates(tmp_path, photo):
    photo("a.jpg"), photo("b.jpg")
    row = {"messages": [{"role": "user", "content": "<image>Where?"}], "images": ["a.jpg"],
           "solution": "<answer> France; Ile-de-France; Paris </answer>"}  # fmt: skip
    nowhere = {**row, "images": ["b.jpg"], "solution": "<answer>Xyzzyqua; ; </answer>"}
    (tmp_path / "set/train.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(nowhere) + "\n")
    with pytest.raises(UserError, match="no column for lat and lon.*--geocode"):
        import_dataset(tmp_path / "set", tmp_path / "m.jsonl", Options())
    loaded = import_dataset(tmp_path / "set", tmp_path / "m.jsonl", Options(geocode=True))
    assert (loaded.samples[0].lat, loaded.samples[0].lon) == pytest.approx((48.85, 2.35), abs=0.02)
    assert any("1 of 2 rows without coordinates" in note for note in loaded.notes)


def test_photographs_outside_are_copied_only_when_asked_and_never_from_beyond_the_set(
    tmp_path, photo
):
    photo("deep/a.jpg")
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg(9))
    rows = [
        {"panoId": n, "lat": 1, "lng": 2, "image": i}
        for n, i in (("1", "deep/a.jpg"), ("2", "../secret.jpg"))
    ]
    (tmp_path / "set/t.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(UserError, match="outside the manifest's folder .give --copy"):
        import_dataset(tmp_path / "set", tmp_path / "out/m.jsonl", Options())
    loaded = import_dataset(tmp_path / "set", tmp_path / "out/m.jsonl", Options(copy=True))
    assert [s.uid for s in loaded.samples] == ["1"]
    assert loaded.skipped == {"photograph outside the data set's folder (give --images)": 1}
    assert load(tmp_path / "out/m.jsonl").samples == loaded.samples


def test_what_is_no_dataset_is_one_clear_error(tmp_path):
    for path, kind, message in (
        (tmp_path / "gone", "auto", "there is no"),
        (tmp_path, "auto", "holds no photographs"),
        (tmp_path, "geoseek", "holds no dataset"),
        (tmp_path, "coco", "no kind of dataset is called 'coco'; there are auto, swift, geoseek"),
    ):
        if kind == "coco":
            (tmp_path / "a.csv").write_text("lat,lon\n1,2\n")
        with pytest.raises(UserError, match=message):
            import_dataset(path, tmp_path / "m.jsonl", Options(kind))
