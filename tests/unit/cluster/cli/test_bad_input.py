"""Whatever a newcomer gives the data, eval, predict and monitor commands by mistake: one line that
says what to do.
"""

import sys
from pathlib import Path

import pytest
from PIL import Image

from cluster.cli import main as cli
from geoagent_rl.terminal import refused

BAD = [
    ("data import nowhere out.jsonl", "there is no file or folder nowhere"),
    ("data import empty out.jsonl", "holds no photographs"),
    ("data import notes.txt out.jsonl", "--kind exif"),
    ("data import zero.csv out.jsonl", "its columns are none"),
    ("data import torn.jsonl out.jsonl", "row 1 is not JSON"),
    ("data import cols.csv out.jsonl", "its columns are a, b"),
    ("data import good out.txt", ".parquet or .jsonl"),
    ("data import nul.jsonl out.jsonl", "image missing (first: nul.jsonl, row 1"),
    ("data import half.jsonl out.jsonl", "image missing (first: half.jsonl, row 1"),
    ("reward explain deep.jsonl", "deep.jsonl, line 1: not JSON (nested too deeply)"),
    ("data import deep.json out.jsonl", "nested too deeply"),
    ("predict good/a.jpg --model circle", "circle is neither a checkpoint"),
    ("report circle", "give a run directory"),
    ("data import good good/m.jsonl --kind nonsense", "there are auto, swift"),
    ("data import good good/m.jsonl --map lat=y", "there is no column y"),
    ("data import good file/m.jsonl --copy", "file/images: "),
    ("data show empty", "`geoagent-rl data import`"),
    ("data show notes.txt", "a .parquet, a .jsonl or a folder"),
    ("data export good x.csv", "is a .jsonl file"),
    ("data sample cols.csv --n 1 --out s.csv", "--lat"),
    ("data sample good/t.csv --n 1 --out s.txt", ".csv, .jsonl or .parquet"),
    ("data sample good/t.csv --n 1 --out s.csv --exclude Germany", "two letters"),
    ("data sample good/t.csv --n 1 --out s.csv --countries nowhere.csv", "No such file"),
    ("data contamination good/t.csv good/t.csv --clean c.txt", ".csv, .jsonl or .parquet"),
    ("data cot-check good --keep k.txt", ".parquet or .jsonl"),
    ("data locatability good good/l.jsonl", "--scores FILE"),
    (
        "data locatability good good/l.jsonl --scores others.csv",
        "its uids are like 'zebra', those like 'a'",
    ),
    ("eval score nowhere.csv", "nowhere.csv"),
    ("eval score good", ".csv, .tsv, .jsonl, .parquet"),
    ("eval score cols.csv", "its columns are: a, b"),
    ("eval score off.csv", "off.csv: row 1 of 1"),
    ("eval score off.csv --geoscore-scale-km 0", "scale must be greater than 0 km"),
    ("eval compare off.csv", "at least two"),
    ("eval published nonsense", "there are im2gps3k"),
    ("predict broken.jpg --model good", "broken.jpg: not a readable image"),
    ("predict good --model good", "--out FILE.csv"),
    ("monitor nowhere", "no folder nowhere"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files = {"notes.txt": "hello", "broken.jpg": "no image", "file": "", "zero.csv": "", "torn.jsonl": "{bad\n",
             "nul.jsonl": '{"image": "a\\u0000", "lat": 1, "lon": 1}\n', "deep.jsonl": "[" * 100_000 + "\n",
             "deep.json": "[" * 100_000,
             "half.jsonl": '{"image": "\\ud800", "lat": 1, "lon": 1}\n',
             "cols.csv": "a,b\n1,2\n", "others.csv": "uid,score\nzebra,5\n",
             "off.csv": "uid,gt_lat,gt_lon,pred_lat,pred_lon\n1,100,10,11,11\n"}  # fmt: skip
    for name, text in files.items():
        Path(name).write_text(text)
    for name in ("empty", "good"):
        Path(name).mkdir()
    Path("circle").symlink_to("circle")
    Image.new("RGB", (32, 32)).save("good/a.jpg")
    Path("good/t.csv").write_text("image,lat,lon,country\na.jpg,48.1,11.5,Narnia\n")
    return tmp_path


def said(line: str, monkeypatch) -> str:
    """What the command ends with."""
    monkeypatch.setattr(sys, "argv", ["geoagent-rl", *line.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


@pytest.mark.parametrize(("line", "part"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_line_that_says_what_to_do(folder, monkeypatch, line, part):
    error = said(line, monkeypatch)
    assert (
        isinstance(error, str)
        and error.startswith("error: ")
        and "\n" not in error
        and part in error
    )


def test_an_unknown_country_and_missing_names_are_noted_and_no_problem(folder, monkeypatch, capsys):
    assert said("data validate good", monkeypatch) == 0
    noted, lacking = (
        "note: 1 of 1 samples name a country that the gazetteer does not know (a: Narnia)",
        "note: good: 1 of 1 samples lack some of their names",
    )
    printed = capsys.readouterr().out
    assert noted in printed and lacking in printed


def test_what_the_system_refuses_is_one_line_and_a_trace_with_debug(folder, monkeypatch):
    with pytest.raises(OSError):
        monkeypatch.setattr(
            sys, "argv", "geoagent-rl data import good file/m.jsonl --copy --debug".split()
        )
        cli.main()
    assert refused(OSError("odd\nthing")).startswith("odd thing; ")
    assert refused(PermissionError(13, "Permission denied", "/x")).startswith(
        "/x: Permission denied; "
    )
