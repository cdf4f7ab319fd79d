"""`data validate` finds what reading cannot, names it, and says nothing about a sound dataset."""

import dataclasses
import io

import pytest
from PIL import Image

from geoagent_rl.data import manifest
from geoagent_rl.data.sample import Sample
from geoagent_rl.data.validate import show, validate

pytestmark = pytest.mark.timeout(300)  # the first test may pack the gazetteer


def dataset(tmp_path, *changes):
    samples = []
    for i, change in enumerate(changes):
        image = tmp_path / f"{i}.jpg"
        Image.effect_noise((60, 40 + i), 60).save(image)
        sample = Sample(f"s{i}", str(image), "Germany", "Bayern", "München", 48.1, 11.6 + i / 100)
        samples.append(dataclasses.replace(sample, **change))
    return manifest.write(tmp_path / "manifest.parquet", samples)


def test_a_sound_dataset_has_no_problem(tmp_path):
    report = validate(dataset(tmp_path, {}, {}))
    assert report.ok and report.lines == ["2 rows, 2 usable samples: no problem found"]


def test_an_answer_of_another_form_is_a_text_for_sft(tmp_path):
    shown = "<think>a port</think><answer>53.5, 10.0</answer>"
    assert validate(dataset(tmp_path, {}, {"cot": shown})).ok


def test_real_photographs_have_no_problem(shared_data):
    report = validate(shared_data / "osv5m_streetview")
    assert report.ok, report.lines


def test_damage_behind_a_header_copies_and_broken_texts_are_found(tmp_path):
    path = dataset(tmp_path, {}, {}, {}, {"cot": "I think it is Munich."}, {"country": ""})
    damaged = io.BytesIO()
    Image.effect_noise((60, 40), 60).save(damaged, "PNG")
    (tmp_path / "0.jpg").write_bytes(damaged.getvalue().replace(b"IDAT", b"IDAT" + bytes(60)))
    (tmp_path / "1.jpg").write_bytes((tmp_path / "2.jpg").read_bytes())
    report = validate(path)
    text = "\n".join(report.lines)
    assert not report.ok
    assert "problem: 1 of 5 images are damaged behind a sound header (s0: " in text
    assert "problem: 1 photographs appear under more than one uid (s1 = s2)" in text
    assert (
        "problem: 1 of these are said to be in different places (s1 at 48.1000, 11.6100 = s2 at"
        in text
    )
    assert "problem: 1 of 1 CoT texts break the format (s3: no tags)" in text
    assert "note: 1 of 5 samples have no country" in text


def test_what_stops_reading_is_reported_not_raised(tmp_path):
    report = validate(tmp_path / "none.jsonl")
    assert not report.ok and report.lines[0].startswith("problem: no manifest")


def test_missing_images_are_a_problem(tmp_path):
    path = dataset(tmp_path, {}, {})
    (tmp_path / "0.jpg").unlink()
    assert not validate(path).ok


def test_show_sums_up(tmp_path):
    other = {"country": "Kenya", "lat": -1.3, "cot": "x", "locatability": 4}
    lines = show(dataset(tmp_path, {"split": "train"}, other))
    text = "\n".join(lines)
    assert "2 samples of 2 rows" in text and "Germany 1, Kenya 1" in text
    assert "lat -1.3000 .. 48.1000, lon 11.6000 .. 11.6100" in text
    assert "1 samples with CoT (50%)" in text and "train 1, (none) 1" in text
    assert "locatability 4 .. 4, mean 4.00 (1 samples)" in text


def test_every_row_outside_the_country_it_names_is_reported_with_what_would_mend_it(tmp_path):
    path = dataset(
        tmp_path,
        {},
        {"lat": -48.1, "lon": 11.6, "country": "Namibia", "region": "", "place": ""},
        {"lat": 22.9, "lon": -43.2, "country": "Brazil", "region": "", "place": ""},
        {"lat": 48.1, "lon": 11.6, "country": "Kenya", "region": "", "place": ""},
        {"lat": 47.6, "lon": 13.0, "country": "Austria", "region": "", "place": ""},  # a border
        {"lat": 44.95, "lon": 34.1, "country": "Russia", "region": "", "place": ""},  # disputed
        {"lat": -20.9, "lon": 55.5, "country": "France", "region": "", "place": ""},  # a territory
    )
    lines = [line for line in validate(path).lines if "lies in" in line]
    assert [line.split(":")[1].strip() for line in lines] == ["s1", "s2", "s3"]
    assert "lies in no country" in lines[0]
    assert "with the sign of its latitude changed it would lie there" in lines[1]
    assert "named Kenya, lies in Germany" in lines[2]


def test_a_wrong_sign_is_suggested_where_it_would_put_the_row_right(tmp_path):
    names = {"region": "", "place": ""}
    path = dataset(tmp_path, {}, {"lat": 12.05, "lon": 77.04, "country": "Peru"} | names)
    (line,) = [line for line in validate(path).lines if "lies in" in line]
    assert "named Peru, lies in India" in line and "both signs changed" in line


def test_photographs_without_names_are_a_problem(tmp_path):
    path = dataset(tmp_path, {}, {"country": "", "region": "", "place": ""})
    report = validate(path)
    assert not report.ok and "1 of 2 samples have no names" in "\n".join(report.lines)
