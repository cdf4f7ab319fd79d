"""A folder of photographs with a CSV is read as it is; nothing in it is lost silently."""

import pytest
from PIL import Image

from geoagent_rl.data.importers.run import Options, import_dataset
from geoagent_rl.data.manifest import load, read
from geoagent_rl.data.photos import country_name
from geoagent_rl.types import UserError


@pytest.fixture
def folder(tmp_path):
    def make(csv, *images, name="photos.csv"):
        root = tmp_path / "photos"
        for image in images:
            (root / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(root / image)
        root.mkdir(exist_ok=True)
        (root / name).write_text(csv, encoding="utf-8")
        return root

    return make


def test_the_osv5m_folder_is_accepted_as_it_is(shared_data):
    loaded = load(shared_data / "osv5m_streetview")
    assert (len(loaded.samples), loaded.skipped, loaded.warnings) == (47, {}, [])
    sample = next(s for s in loaded.samples if s.uid == "1105240373293389")
    assert sample.prompt().truth.levels == ("Australia", "Western Australia", "Maida Vale")
    assert sample.lat == -31.987684407000472 and sample.source == "osv5m game/select.csv@0a7efba"
    assert loaded.notes == ["columns not used: mapillary_user"]


def test_aliases_delimiter_and_byte_order_mark(folder):
    csv = "\ufeffID;File Name;Latitude;LNG;Country_Code;State;City;License\n7;a.jpg;-22.5;17.1;NA;Khomas;Windhoek;CC0\n"
    [sample] = read(folder(csv, "images/a.jpg"))
    assert (sample.uid, sample.lat, sample.lon) == ("7", -22.5, 17.1)
    assert sample.prompt().truth.levels == ("Namibia", "Khomas", "Windhoek")
    assert sample.licence == "CC0" and sample.image.endswith("images/a.jpg")


def test_images_are_found_by_name_or_by_uid_and_uids_by_image(folder):
    csv = "file,lat,lon\nsub/a.jpg,1,2\nb.png,1,2\nimages\\c.png,1,2\n"
    root = folder(csv, "sub/a.jpg", "deep/er/b.png", "images/c.png")
    assert [s.uid for s in read(root)] == ["a", "b", "c"]
    (root / "photos.csv").write_text("id,lat,lon\nb,1,2\n")
    assert read(root / "photos.csv")[0].image.endswith("deep/er/b.png")


def test_a_blank_city_falls_back_to_the_county(folder):
    csv = "file,lat,lon,country,city,county\na.jpg,1,2,Kenya,,Kwale\n"
    assert read(folder(csv, "a.jpg"))[0].place == "Kwale"


def test_rows_without_image_and_images_without_row_are_counted(folder):
    root = folder("file,lat,lon\na.jpg,1,2\ngone.jpg,1,2\n", "a.jpg", "b.jpg", "c.jpg")
    loaded = load(root)
    assert loaded.skipped == {"image missing": 1}
    assert any(
        "2 images without a row in photos.csv are left out (first: b.jpg)" in w
        for w in loaded.warnings
    )
    assert any("row 3: " in w and "gone.jpg: no such image file" in w for w in loaded.warnings)


def test_metadata_csv_comes_first_and_two_others_are_ambiguous(folder):
    root = folder("file,lat,lon\na.jpg,1,2\n", "a.jpg")
    folder("file,lat,lon\na.jpg,3,4\n", name="other.csv")
    with pytest.raises(UserError, match=r"nor just one CSV \(other.csv, photos.csv\)"):
        read(root)
    folder("file,lat,lon\na.jpg,5,6\n", name="metadata.csv")
    assert read(root)[0].lat == 5


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("name,x,y\na,1,2\n", "no column lat, lon, image or uid; its columns are name, x, y"),
        ("", "no column"),
        ("file,lat,lon\n", "has no rows"),
        ("file,lat,lon\na.jpg,91,0\n", "row 2 .a.: lat 91 is outside"),
        ('file,lat,lon\na.jpg,"48,1,7",0\n', "lat is '48,1,7', not a number"),
        ("file,lat,lon\na.jpg,48E,0\n", "lat is '48E', not a number"),
        ("file,lat,lon\na.jpg,-48N,0\n", "lat is '-48N', not a number"),
        ("file,lat,lon\n../a.jpg,1,0\n", "outside"),
    ],
)
def test_bad_tables_stop_in_one_line(folder, csv, message):
    with pytest.raises(UserError, match=message):
        read(folder(csv, "a.jpg"))


def test_a_folder_with_nothing_in_it(tmp_path):
    with pytest.raises(UserError, match=r"nor just one CSV \(none\)"):
        read(tmp_path)


def test_import_writes_a_manifest_beside_the_photographs_or_copies_them(folder, tmp_path):
    root = folder("file,lat,lon,country\na.jpg,48,11,DEU\n", "a.jpg")
    import_dataset(root, root / "manifest.parquet", Options())
    assert read(root)[0].country == "Germany"
    with pytest.raises(UserError, match="outside"):
        import_dataset(root, tmp_path / "elsewhere/manifest.jsonl", Options())
    import_dataset(root, tmp_path / "elsewhere/manifest.jsonl", Options(copy=True))
    assert read(tmp_path / "elsewhere")[0].image == str(tmp_path / "elsewhere/images/a.jpg")


def test_a_folder_read_as_it_is_and_its_import_are_the_same_rows(folder):
    """Also the import of what was imported; a bad row stops the one and is counted by the other."""
    csv = "file,lat,lon,country,state,city,domain,difficulty,entities,aliases\n"
    row = "a.jpg,48.14,11.58,DEU,Bavaria,Munich,street,0.5,tram;church,Bayern\n"
    root = folder(csv + row, "a.jpg", "b.jpg")
    as_it_is = read(root)
    (root / "photos.csv").write_text(csv + row + "b.jpg,91,11,DEU,,,,,,\n")
    loaded = import_dataset(root, root / "manifest.jsonl", Options())
    assert loaded.samples == as_it_is and loaded.skipped == {"coordinates out of range": 1}
    first = as_it_is[0]
    assert (first.domain, first.difficulty, first.aliases) == ("street", 0.5, "Bayern")
    again = import_dataset(root, root / "manifest.parquet", Options())
    assert again.samples == as_it_is == read(root)


def test_country_codes_become_names_and_names_stay():
    assert [country_name(c) for c in ("DE", "DEU", "UK")] == [
        "Germany",
        "Germany",
        "United Kingdom",
    ]
    assert [country_name(c) for c in ("NL", "ZZ", "Germany", "de")] == [
        "Netherlands",
        "ZZ",
        "Germany",
        "de",
    ]
