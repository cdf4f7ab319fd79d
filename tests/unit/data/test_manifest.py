"""The dataset format: what is written is read back, and each kind of bad input has its one
outcome.
"""

import csv
import json
import math
import pickle
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from geoagent_rl.data import manifest
from geoagent_rl.data.images import BadImage, check_image, open_image
from geoagent_rl.data.manifest import load, read, write
from geoagent_rl.data.sample import Sample
from geoagent_rl.types import Prompt, Truth, UserError


@pytest.fixture
def row(tmp_path):
    """Makes one manifest row and its image."""

    def make(uid, **values):
        (tmp_path / "images").mkdir(exist_ok=True)
        image = f"images/{uid}.png"
        Image.new("RGB", (8, 6), (10, 200, 30)).save(tmp_path / image)
        return {
            "uid": uid,
            "image": image,
            "lat": 48.1,
            "lon": 11.6,
            "country": "Germany",
            **values,
        }

    return make


@pytest.fixture
def jsonl(tmp_path):
    def make(*rows):
        path = tmp_path / "manifest.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return path

    return make


@pytest.mark.parametrize("name", ["manifest.parquet", "manifest.jsonl"])
def test_written_and_read_back_from_file_and_folder(tmp_path, row, jsonl, name):
    rows = [row("a", region="Bayern", place="München", cot="<think>…</think>", locatability=6.5, scene="urban",
                source="made", licence="CC0", split="train"),
            row("b", country="Côte d'Ivoire", lat=-90, lon=180)]  # fmt: skip
    samples = read(jsonl(*rows))
    (tmp_path / "manifest.jsonl").unlink()
    write(tmp_path / name, samples)
    assert read(tmp_path / name) == read(tmp_path) == samples
    assert samples[0] == Sample("a", str(tmp_path / "images/a.png"), "Germany", "Bayern", "München", 48.1, 11.6,
                                "<think>…</think>", 6.5, "urban", "made", "CC0", "train")  # fmt: skip
    assert samples[1].prompt() == Prompt(
        "b", samples[1].image, Truth("Côte d'Ivoire", "", "", -90.0, 180.0)
    )
    assert not list(tmp_path.glob("*.part"))


def test_a_manifest_stays_valid_when_its_folder_moves(tmp_path, row, jsonl):
    write(tmp_path / "manifest.parquet", read(jsonl(row("a"))))
    moved = tmp_path.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert read(moved / "manifest.parquet")[0].image == str(moved / "images/a.png")


def test_numeric_uids_and_absolute_paths_inside_are_accepted(tmp_path, row, jsonl):
    sample = row("7")
    assert read(jsonl({**sample, "uid": 7, "image": str(tmp_path / sample["image"])}))[0].uid == "7"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"uid": ""}, "uid is empty"),
        ({"image": None}, "image is empty"),
        ({"lat": 90.5}, "lat 90.5 is outside -90..90; correct it"),
        ({"lon": -180.01}, "lon -180.01 is outside -180..180"),
        ({"lat": "north"}, "lat is 'north', not a number"),
        ({"lat": float("inf")}, "lat is 'inf', not a number"),
        ({"lon": True}, "lon is 'True', not a number"),
        ({"locatability": "high"}, "locatability is 'high', not a number"),
        ({"image": "../escape.png"}, "outside"),
        ({"image": "/etc/hostname"}, "outside"),
        ({"image": "images/\0.png"}, "is not a path"),
    ],
)
def test_what_puts_the_table_in_doubt_stops_and_names_the_row(row, jsonl, change, message):
    path = jsonl(row("a"), {**row("b"), **change})
    with pytest.raises(UserError, match=r"manifest.jsonl, row 2[ :(]") as error:
        read(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_symbolic_link_that_leaves_the_folder_is_refused(tmp_path, tmp_path_factory, row, jsonl):
    outside = tmp_path_factory.mktemp("outside")
    Image.new("RGB", (4, 4)).save(outside / "x.png")
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(UserError, match="outside"):
        read(jsonl(row("a", image="link/x.png")))


def test_a_duplicate_uid_stops_and_names_both_rows(row, jsonl):
    with pytest.raises(UserError, match=r"row 3 \(a\): uid appears in row 1 too"):
        read(jsonl(row("a"), row("b"), row("a")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.parquet", None, "no manifest"),
        ("a.txt", b"hello", "a manifest is a .parquet"),
        ("a.parquet", b"PAR1 not really", "cannot be read: Parquet magic bytes not found"),
        ("a.jsonl", b'{"uid": 1}\n{broken\n', "row 2 is not JSON"),
        ("a.jsonl", b"\xff\xfe\n", "row 1 is not JSON"),
        ("a.jsonl", b"[1, 2]\n", "row 1 is not a JSON object"),
        ("a.jsonl", b"", "has no rows"),
        (
            "a.jsonl",
            b'{"uid": "a", "picture": "x.png"}\n',
            "no column image, lat, lon; it has picture, uid",
        ),
    ],
)
def test_files_that_are_no_manifest(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_an_empty_parquet_manifest_is_an_error(tmp_path):
    manifest.pq.write_table(manifest.SCHEMA.empty_table(), tmp_path / "manifest.parquet")
    with pytest.raises(UserError, match="has no rows"):
        read(tmp_path)


def test_rows_with_unusable_photographs_are_skipped_and_counted(tmp_path, row, jsonl, caplog):
    rows = [row(uid) for uid in ("good", "gone", "text", "bomb", "nowhere", "cut")]
    (tmp_path / "images/gone.png").unlink()
    (tmp_path / "images/text.png").write_bytes(b"<html>not found</html>")
    Image.new("1", (2000, 2000)).save(tmp_path / "images/bomb.png")
    whole = (tmp_path / "images/cut.png").read_bytes()
    (tmp_path / "images/cut.png").write_bytes(whole[:20])  # cut inside the header
    rows[4]["lat"] = None
    path = jsonl(*rows)
    loaded = load(path, max_image_megapixels=3.9)
    assert [s.uid for s in loaded.samples] == ["good"]
    assert loaded.skipped == {
        "image missing": 1,
        "image unreadable": 2,
        "image too large": 1,
        "no coordinates": 1,
    }
    assert loaded.rows == len(loaded.samples) + sum(loaded.skipped.values())
    assert read(path, 3.9) == loaded.samples
    assert any(
        "1 of 6 rows skipped, image missing (first: row 2:" in message
        for message in caplog.messages
    )


TOWNS = {"Germany": (48.14, 11.58), "Kenya": (-1.29, 36.82), "Egypt": (30.04, 31.24), "Peru": (-12.05, -77.04),
         "Iceland": (64.15, -21.94), "Nigeria": (9.06, 7.49)}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda lat, lon: (lon, lat), "swapped"),
        (lambda lat, lon: (math.radians(lat), math.radians(lon)), "radians"),
        (lambda lat, lon: (0.0, 0.0), "0, 0"),
    ],
)
def test_suspect_coordinates_are_kept_with_a_warning_that_gives_the_evidence(
    row, jsonl, change, word
):
    rows = []
    for country, degrees in TOWNS.items():
        lat, lon = change(*degrees)
        rows.append(row(country, country=country, lat=lat, lon=lon))
    loaded = load(jsonl(*rows))
    assert len(loaded.samples) == len(TOWNS)
    assert any(word in warning and any(c.isdigit() for c in warning) for warning in loaded.warnings)


def test_sound_coordinates_are_not_suspected(row, jsonl):
    rows = [
        row(country, country=country, lat=lat, lon=lon) for country, (lat, lon) in TOWNS.items()
    ]
    (lacking,) = load(jsonl(*rows)).warnings
    assert "6 of 6 samples lack some of their names" in lacking


def test_radians_published_by_mistake_are_suspected(shared_data, tmp_path, row, jsonl):
    """osv5m_predictions/radians_fixture.csv, a real accident of OSV-5M."""
    with (shared_data / "osv5m_predictions/radians_fixture.csv").open() as file:
        rows = [
            row(r["id"], country="", lat=r["true_lat"], lon=r["true_lon"])
            for r in csv.DictReader(file)
        ]
    assert any("radians" in warning for warning in load(jsonl(*rows)).warnings)


def test_swapped_columns_out_of_range_stop_with_the_evidence(shared_data, row, jsonl):
    with (shared_data / "im2gps_predictions/swapped_header_fixture.csv").open() as file:
        rows = [row(r["key_sha1_12"], lat=r["LAT"], lon=r["LON"]) for r in csv.DictReader(file)]
    with pytest.raises(
        UserError, match="is outside -90..90; latitude and longitude look swapped: 16 of 60"
    ):
        load(jsonl(*rows))


def test_a_manifest_without_any_usable_row_is_an_error(tmp_path, row, jsonl):
    path = jsonl(row("a"))
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(UserError, match="no usable row: 1 of 1 rows skipped, image missing"):
        read(path)


def test_unknown_columns_are_named(row, jsonl):
    assert load(jsonl(row("a", camera="x"))).notes == ["columns not used: camera"]


def test_writing_refuses_what_could_not_be_read_back(tmp_path, row, jsonl):
    samples = read(jsonl(row("a")))
    for path, rows, message in [
        (tmp_path / "x.csv", samples, "ends in .parquet or .jsonl"),
        (tmp_path / "x.jsonl", [], "no samples"),
        (tmp_path / "x.jsonl", samples * 2, "same uid"),
        (tmp_path / "deep/x.jsonl", samples, "outside"),
    ]:
        with pytest.raises(UserError, match=message):
            write(path, rows)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_file_that_was_cut_short_is_noticed_without_decoding_the_others(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.effect_noise((200, 200), 80).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"appended by a phone" * 100)
    assert check_image(path) == (200, 200)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadImage, match="truncated"):
        check_image(path)


def test_damage_inside_a_file_is_found_when_the_image_is_opened(tmp_path):
    path = tmp_path / "damaged.png"
    Image.effect_noise((200, 200), 80).save(path)
    data = bytearray(path.read_bytes())
    data[5000:9000] = bytes(4000)
    path.write_bytes(data)
    assert check_image(path) == (200, 200)
    with pytest.raises(BadImage, match="not a readable image") as error:
        open_image(path)
    assert error.value.kind == "unreadable" and isinstance(error.value, UserError)
    assert pickle.loads(pickle.dumps(error.value)).kind == "unreadable"


def test_images_come_upright_and_rgb(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    Image.new("L", (40, 20)).save(path, exif=exif)
    image = open_image(path)
    assert (image.size, image.mode) == ((20, 40), "RGB")


def test_a_bomb_is_refused_without_decoding_and_with_what_to_do(tmp_path):
    Image.new("1", (5000, 5000)).save(tmp_path / "bomb.png")
    with pytest.raises(
        BadImage, match="25 megapixels, limit 20; shrink it or raise data.max_image_megapixels"
    ):
        open_image(tmp_path / "bomb.png", 20)


@pytest.mark.parametrize("limit", [80, 1000])
def test_a_header_that_claims_gigapixels_is_refused(tmp_path, limit):
    path = tmp_path / "claims.bmp"
    Image.new("RGB", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(BadImage) as error:
        check_image(path, limit)
    assert error.value.kind == "too large"


def test_a_strip_that_no_processor_takes_is_refused(tmp_path):
    Image.new("RGB", (2010, 10)).save(tmp_path / "strip.png")
    with pytest.raises(BadImage, match="2010 x 10.*crop"):
        check_image(tmp_path / "strip.png")


@pytest.mark.parametrize(("on_disk", "listed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_in_either_form_of_unicode(tmp_path, on_disk, listed):
    """As macOS and others write it; both look alike."""
    name = "Łódź-Zürich.png"
    Image.new("RGB", (8, 6)).save(tmp_path / unicodedata.normalize(on_disk, name))
    row = {"uid": "a", "image": unicodedata.normalize(listed, name), "lat": 1, "lon": 2}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    (sample,) = manifest.read(tmp_path)
    assert Path(sample.image).is_file()
