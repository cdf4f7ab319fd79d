"""One reader for every table that a user gives: what spreadsheets and scripts write is read alike
by manifests, folders of photographs, pools, prediction files, scores and importers."""

import json
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geoagent_rl.data import manifest, pools, tables
from geoagent_rl.data.importers.run import Options, import_dataset
from geoagent_rl.data.locatability import read_scores
from geoagent_rl.evaluation.predictions import read_predictions
from geoagent_rl.types import UserError

ROWS = [
    {"uid": "a", "image": "a.png", "lat": 48.1, "lon": 11.6, "country": "Österreich"},
    {"uid": "b", "image": "b.png", "lat": -1.3, "lon": 36.8, "country": "Kenya; East"},
]
NAMES = list(ROWS[0])


def delimited(delimiter: str) -> str:
    lines = [delimiter.join(f'"{row[name]}"' for name in NAMES) for row in ROWS]
    return "\n".join([delimiter.join(NAMES), *lines]) + "\n"


def lines() -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


WRITTEN = {
    "comma.csv": delimited(",").encode(),
    "semicolon.csv": delimited(";").encode(),
    "pipe.csv": delimited("|").encode(),
    "excel.csv": delimited(";").encode("utf-8-sig"),
    "excel-unicode.tsv": delimited("\t").encode("utf-16"),
    "tab.tsv": delimited("\t").encode(),
    "lines.jsonl": lines().encode(),
    "bom.jsonl": lines().encode("utf-8-sig"),
    "blank.jsonl": ("\n" + lines().replace("\n", "\n\n")).encode(),
}


@pytest.fixture(params=[*WRITTEN, "arrow.parquet"])
def table(request, tmp_path):
    for row in ROWS:
        Image.new("RGB", (8, 8)).save(tmp_path / row["image"])
    path = tmp_path / request.param
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_bytes(WRITTEN[request.param])
    return path


def test_every_way_of_writing_a_table_is_read_alike(table):
    assert tables.header(table) == NAMES and tables.count_rows(table) == len(ROWS)
    found = [values for _, values in tables.whole_rows(table)]
    assert [{**v, "lat": float(v["lat"]), "lon": float(v["lon"])} for v in found] == ROWS


def test_everything_that_reads_tables_reads_them(table, tmp_path):
    samples = manifest.load(table).samples
    assert [(s.uid, s.lat, s.country) for s in samples] == [
        (row["uid"], row["lat"], row["country"]) for row in ROWS
    ]
    pool = pools.open_pool(table)
    lat, lon, country = (
        np.concatenate(column) for column in zip(*pools.positions(pool), strict=True)
    )
    assert [*lat] == [48.1, -1.3] and [*lon] == [11.6, 36.8] and country[0] == "Österreich"
    predictions = read_predictions(table, ("lat", "lon", "lat", "lon"))
    assert predictions.uids == ["a", "b"] and predictions.truth[0, 0] == 48.1
    loaded = import_dataset(table, tmp_path / "out.jsonl", Options())
    assert [s.uid for s in loaded.samples] == ["a", "b"]


def test_spellings_of_columns_are_one():
    from geoagent_rl.data.columns import find_column

    assert find_column(["X", "GT Lat", "lat-itude"], ("latitude", "gtlat")) == "lat-itude"
    assert find_column(["X"], ("latitude",)) == ""


@pytest.mark.parametrize("cell", ["NaN", "nan", "", "null", "not a number"])
def test_a_cell_that_is_no_number_fails_one_prediction_and_stops_nothing(tmp_path, cell):
    rows = ["uid,gt_lat,gt_lon,pred_lat,pred_lon", f"a,1,2,{cell},{cell}", "b,1,2,1,2"]
    (tmp_path / "p.csv").write_text("\n".join(rows))
    value = {"NaN": math.nan, "nan": math.nan, "null": None}.get(cell, cell)
    values = [
        {"uid": uid, "gt_lat": 1, "gt_lon": 2, "pred_lat": at, "pred_lon": at and 2}
        for uid, at in (("a", value), ("b", 1))
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    for name in ("p.csv", "p.jsonl"):
        assert [*read_predictions(tmp_path / name).located] == [False, True]


def test_an_array_of_json_in_jsonl_is_named_in_one_line(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(ROWS, indent=1))
    reads = (
        manifest.load,
        read_predictions,
        read_scores,
        pools.open_pool,
        lambda p: import_dataset(p, tmp_path / "out.jsonl", Options()),
    )
    for read in reads:
        with pytest.raises(UserError, match="the file is one JSON array; write an object on each"):
            read(path)


def test_rows_that_cannot_be_read_are_named_and_the_others_are_there(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"x": 1}\n{torn\n\nNaN\n{"x": 2}\n')
    found = [(r.number, r.values.get("x"), r.fault) for r in tables.rows(tmp_path / "a.jsonl")]
    assert [f[:2] for f in found] == [(1, 1), (2, None), (4, None), (5, 2)]
    assert "is not JSON" in found[1][2] and "is not a JSON object" in found[2][2]
    with pytest.raises(UserError, match="a.jsonl, row 2 is not JSON"):
        tables.whole_rows(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").write_text("x,y\n1,2\n1,2,3\n4,5\n")
    found = list(tables.rows(tmp_path / "a.csv"))
    assert [(r.number, r.fault) for r in found] == [(2, ""), (3, "has 1 cells too many"), (4, "")]
    lost: Counter[str] = Counter()
    (batch,) = tables.batches(tmp_path / "a.csv", None, lost=lost)
    assert batch.num_rows == 2 and sum(lost.values()) == 1


@pytest.mark.parametrize("name", ["gone.csv", "latin.csv", "short.parquet"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name):
    path = tmp_path / name
    if name == "latin.csv":
        path.write_bytes("ort\nKöln\n".encode("latin-1"))
    elif name == "short.parquet":
        path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read") as error:
        tables.whole_rows(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_cell_may_be_longer_than_any_chain_of_thought(tmp_path):
    path, long = tmp_path / "a.csv", "so " * 100_000  # Python's own limit is 128 KiB
    path.write_text(f"uid,cot\na,{long}\n")
    assert tables.whole_rows(path)[0][1] == {"uid": "a", "cot": long}


def test_two_columns_of_one_name_are_refused_and_nameless_ones_are_not(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("uid,lat,lat\na,1,2\n")
    for read in (tables.header, tables.whole_rows):
        with pytest.raises(UserError, match="two columns lat"):
            read(path)
    path.write_text(",uid,\n0,a,x\n")
    assert tables.whole_rows(path)[0][1]["uid"] == "a"


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"a table is a \.parquet, .*\.tsv file"):
        tables.whole_rows(tmp_path / "a.xlsx")
