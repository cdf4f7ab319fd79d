"""What a data set leaves out: stages of its chains of thought, names of its rows."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geoagent_rl.answers.parse import STAGES, is_chain, parse
from geoagent_rl.data.importers.run import Options, import_dataset
from geoagent_rl.data.names import fill_names
from geoagent_rl.data.sample import Sample
from geoagent_rl.data.validate import validate

pytestmark = pytest.mark.timeout(300)  # the first test may pack the gazetteer


def chain(conclusions):
    return {
        "ChainOfThought": {
            name: {"Clues": ["sign"], "Reasoning": "x" * 120, "Conclusion": c, "Uncertainty": "Low"}
            for name, c in zip(STAGES, conclusions, strict=True)
            if c
        }
    }


@pytest.mark.parametrize(
    ("given", "final", "levels"),
    [
        (("Peru", None, "Lima"), "Peru; Lima; Lima", ("Peru", "Lima", "Lima")),
        (("Peru", None, "Lima"), "Peru; ; Lima", ("Peru", "", "Lima")),
        (("Peru", "Lima", None), "Peru; Lima", ("Peru", "Lima", "")),
        (("Peru", None, None), None, ("Peru", "", "")),
    ],
)
def test_a_chain_with_optional_stages_is_kept_without_them(tmp_path, given, final, levels):
    picture = io.BytesIO()
    Image.new("RGB", (8, 6)).save(picture, "JPEG")
    row = {"image": {"bytes": picture.getvalue()}, "uid": "1", "country": "Peru", "region": "Lima", "place": "Lima",
           "lat": -12.0, "lon": -77.0}  # fmt: skip
    row["cot"] = json.dumps(chain(given) | ({"FinalAnswer": final} if final else {}))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "p.parquet")
    loaded = import_dataset(tmp_path / "p.parquet", tmp_path / "m.jsonl", Options())
    (sample,) = loaded.samples
    parsed = parse(sample.cot)
    assert is_chain(sample.cot) and parsed.levels == levels
    assert [s.conclusion for s in parsed.stages] == [conclusion or "" for conclusion in given]
    assert any("1 CoT texts leave out a stage or level" in line for line in loaded.warnings)
    assert not any(
        "CoT" in line for line in validate(tmp_path / "m.jsonl").lines if "problem" in line
    )


@pytest.mark.parametrize(
    ("names", "filled"),
    [
        (("", "", ""), ("France", "Normandy", "Rouen")),
        (("France", "", ""), ("France", "Normandy", "Rouen")),
        (("Frankreich", "Normandie", ""), ("Frankreich", "Normandie", "Rouen")),
        (("France", "", "Rive droite"), ("France", "Normandy", "Rive droite")),
        (("Spain", "", ""), ("Spain", "", "")),  # it lies elsewhere: a problem, not a blank
        (("France", "Brittany", ""), ("France", "Brittany", "")),
        (("", "Normandy", ""), ("", "Normandy", "")),
    ],
)
def test_names_that_a_row_lacks_are_those_of_the_nearest_town_if_it_agrees(names, filled):
    row = dict(zip(("country", "region", "place"), names, strict=True), lat=49.4431, lon=1.0993)
    assert fill_names([row]) == (names != filled)
    assert (row["country"], row["region"], row["place"]) == filled


def test_rewards_are_told_the_further_columns_that_a_row_has():
    row = {"scene": "sign", "difficulty": 0.5, "locatability": 0.0, "entities": "tram;church"}
    row["aliases"] = "Lima Metropolitana"
    told = Sample("1", "a.jpg", "Peru", "Lima", "Lima", -12.0, -77.0, **row).prompt().columns
    assert told == row | {"difficulty": "0.5", "locatability": "0"}
    assert Sample("1", "a.jpg", "Peru", "Lima", "Lima", -12.0, -77.0).prompt().columns == {}
