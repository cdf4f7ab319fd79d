"""The commands in docs/data.md and docs/evaluation.md run as written, in order, on small data of
the right layout.

Left out are blocks with a mark, which tests of their own run (test_doc_commands.py).
"""

import io
import json
import shlex

import pandas
import pytest
from PIL import Image
from typer.testing import CliRunner

from cluster.cli.main import app
from geoagent_rl.answers.parse import STAGES
from geoagent_rl.tiny.scenes import make
from tests.support.documents import SHELLS, blocks
from tests.support.paths import ROOT

RUN = ("data.md", "evaluation.md")


def picture(path, shade, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((64, 48), 60 + shade).convert("RGB").save(path, **options)


def lay_out(root):
    """Every file that the two pages name."""
    for i in range(4):
        picture(root / f"osv5m/images/00/{i}.jpg", i)
        picture(root / f"photos/{i}.jpg", 10 + i)
        picture(root / f"held/{i}.jpg", 20 + i)
        picture(root / f"odd/{i}.jpg", 30 + i)
        picture(root / f"swift/{i}.jpg", 40 + i)
    lat, lon = [48.1, -1.3, 35.7, 40.7], [11.6, 36.8, 139.7, -74]
    places = pandas.DataFrame({"id": range(4), "latitude": lat, "longitude": lon, "country": ["DE", "KE", "JP", "US"],
                               "sub-region": ""})  # fmt: skip
    places.to_csv(root / "osv5m/test.csv", index=False)
    plain = places.rename(columns={"latitude": "lat", "longitude": "lon"}).drop(
        columns="sub-region"
    )
    plain.assign(image=[f"{i}.jpg" for i in range(4)]).to_csv(root / "photos/t.csv", index=False)
    held = [{"uid": str(i), "image": f"{i}.jpg", "lat": lat[i] + i % 2, "lon": lon[i], "country": "Kenya",
             "locatability": 2.0, "scene": "urban"} for i in range(4)]  # fmt: skip
    (root / "held/manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
    odd = plain.rename(columns={"lat": "y", "lon": "x", "country": "village"})
    odd.assign(image=[f"{i}.jpg" for i in range(4)]).to_csv(root / "odd/table.csv", index=False)
    swift = [{"messages": [{"role": "user", "content": "<image>?"}], "images": [f"{i}.jpg"],
              "solution": "<answer>Kenya; Nairobi; Nairobi</answer>"} for i in range(4)]  # fmt: skip
    (root / "swift/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in swift))
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0), 3: "E", 4: (11.0, 34.0, 0.0)})
    picture(root / "camera/one.jpg", 50, exif=exif)
    write_geoseek(root / "geoseek/data/train-00000-of-00001.parquet")
    pandas.concat([plain] * 100, ignore_index=True).assign(id=range(400)).to_csv(
        root / "pool.csv", index=False
    )
    (root / "scores.csv").write_text("uid,locatability\n0,3\n1,9\n")
    make(root / "scenes", 8, 0, "train", with_cot=True)


def write_geoseek(path):
    stages = {name: {"Clues": ["sign"], "Reasoning": "x" * 120, "Conclusion": c, "Uncertainty": "Low"}
              for name, c in zip(STAGES, ("Kenya", "Nairobi", "Nairobi"), strict=True)}  # fmt: skip
    data = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(data, "JPEG")
    cot = json.dumps({"ChainOfThought": stages, "FinalAnswer": "Kenya; Nairobi; Nairobi"})
    row = {"image": {"bytes": data.getvalue(), "path": "a.jpg"}, "solution": "<answer>Kenya; Nairobi; Nairobi</answer>",
           "lat": -1.3, "lng": 36.8, "Locatability Score": 6.5, "cls": "sign",
           "cot": f"```json\n{cot}\n```"}  # fmt: skip
    path.parent.mkdir(parents=True)
    pandas.DataFrame([row]).to_parquet(path)


def predictions(root):
    rows = pandas.DataFrame({"uid": range(4), "gt_lat": [48.1, -1.3, 35.7, 40.7], "gt_lon": [11.6, 36.8, 139.7, -74],
                             "pred_lat": [48, 1, 35, None], "pred_lon": [11, 36, 139, None],
                             "scene": "urban"})  # fmt: skip
    rows.to_csv(root / "predictions.csv", index=False)
    rows.to_csv(root / "baseline.csv", index=False)
    rows.to_json(root / "predictions.jsonl", orient="records", lines=True)
    rows.rename(columns={"pred_lat": "lat", "pred_lon": "lon"})[["uid", "lat", "lon"]].to_csv(
        root / "bare.csv"
    )


@pytest.mark.parametrize("page", RUN)
def test_documented_commands_run(tmp_path, monkeypatch, page):
    lay_out(tmp_path)
    predictions(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = blocks((ROOT / "docs" / page).read_text(encoding="utf-8"))
    ran = [line for b in found if b.language in SHELLS and not b.mark for line in b.lines]
    assert len(ran) >= 4
    for line in ran:
        done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
        allowed = (0, 1) if "cot-check" in line else (0,)
        assert done.exit_code in allowed and not isinstance(done.exception, Exception), (
            line,
            done.exception,
        )
    written = {path.name for path in tmp_path.rglob("*")}
    if page == "data.md":
        assert {
            "manifest.parquet",
            "sample-report.html",
            "clean.csv",
            "scored.jsonl",
            "swift.jsonl",
        } <= written
        assert len(pandas.read_csv(tmp_path / "drawn/sample.csv")) == 200
    else:
        assert {"score.html", "compare.html"} <= written
