"""`data audit` shows what a geocoder makes of a manifest's own names, and which rows lie abroad."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from cluster.cli.data import data_app
from geoagent_rl.data import manifest
from geoagent_rl.data.audit import abroad, audit, show
from geoagent_rl.data.sample import Sample
from geoagent_rl.geo.match import Match

MUNICH = Match(48.137, 11.575, "place", "Munich", "Bavaria", "DE")
BAVARIA = Match(48.8, 11.3, "region", "Bavaria", "Bavaria", "DE")
PARIS = Match(48.857, 2.352, "place", "Paris", "Île-de-France", "FR")


def samples(*names):
    return [Sample(f"s{i}", f"{i}.jpg", *levels, 48.137, 11.575) for i, levels in enumerate(names)]


def test_each_level_and_country_is_measured_and_what_is_lost_is_named():
    rows = samples(
        ("Germany", "Bavaria", "Munich"),
        ("Germany", "Bavaria", "Qwx"),
        ("Germany", "", "Zzz"),
        ("France", "", "Paris"),
        ("", "", ""),
    )
    found = audit(rows, "fake", lambda addresses: [MUNICH, BAVARIA, None, PARIS])
    by_group = {row["group"]: row for row in found.rows}
    assert by_group["all"] | {"median_km": 0, "q90_km": 0} == {
        "group": "all", "n": 4, "found": 3, "median_km": 0, "q90_km": 0, "far": 1,
    }  # fmt: skip
    assert by_group["found the region"]["median_km"] == pytest.approx(76.4, abs=1.0)
    assert by_group["found nothing"] == {
        "group": "found nothing", "n": 1, "found": 0, "median_km": None, "q90_km": None, "far": 0,
    }  # fmt: skip
    assert by_group["Germany"]["n"] == 3 and by_group["France"]["far"] == 1
    assert found.unresolved == ["Germany; ; Zzz"]
    assert len(found.far) == 1 and found.far[0].startswith("s3: France; ; Paris: place Paris, FR")
    assert any("found nowhere" in line for line in show([found], abroad(rows), len(rows)))


def test_rows_outside_their_country_are_named():
    rows = samples(("Germany", "", ""), ("Kenya", "", ""))
    assert [uid for uid, _ in abroad(rows)] == ["s1"]


def test_the_command_reports_for_people_and_machines(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    at = Sample("a", str(tmp_path / "a.jpg"), "Germany", "Bavaria", "Munich", 48.137, 11.575)
    path = manifest.write(tmp_path / "manifest.parquet", [at])
    told = CliRunner().invoke(data_app, ["audit", str(path), "--json"])
    (one,) = json.loads(told.stdout)["audits"]
    assert one["provider"] == "gazetteer" and one["rows"][0]["median_km"] < 1
    shown = CliRunner().invoke(data_app, ["audit", str(path)])
    assert "1 samples, 0 outside the country that they name" in shown.stdout
