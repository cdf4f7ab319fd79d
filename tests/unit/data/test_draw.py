"""The de-biased sample: Eq. 11 by hand, bounds, pools of every format, and the same draw for the
same seed.
"""

import csv
import json
from collections import Counter

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

from cluster.cli.local import app
from geoagent_rl.data.draw import draw, stratify, write_rows
from geoagent_rl.data.pools import open_pool
from geoagent_rl.data.sampling import (
    apportion,
    cell_centre,
    cell_of,
    draw_cells,
    entropy_bits,
    quotas,
    shares,
)
from geoagent_rl.data.tables import whole_rows
from geoagent_rl.geo.countries import CountryCodes, countries, country_table
from geoagent_rl.types import UserError


def by_hand(path, n, exclude):
    """Eq. 11 and largest remainder, written without the code under test."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["iso2"] not in exclude]
    columns = {
        name: [float(r[name] or 0) for r in rows]
        for name in ("roadways_km", "population", "land_area_km2")
    }
    sums = {name: sum(values) for name, values in columns.items()}
    exact = {}
    for i, r in enumerate(rows):
        exact[r["iso2"]] = n * (0.5 * columns["roadways_km"][i] / sums["roadways_km"]
                                + 0.2 * columns["population"][i] / sums["population"]
                                + 0.3 * columns["land_area_km2"][i] / sums["land_area_km2"])  # fmt: skip
    whole = {code: int(x) for code, x in exact.items()}
    for code in sorted(exact, key=lambda code: whole[code] - exact[code])[
        : n - sum(whole.values())
    ]:
        whole[code] += 1
    return exact, whole


@pytest.mark.parametrize("exclude", [(), ("AQ",)])
def test_counts_are_eq_11_of_the_factbook_by_largest_remainder(shared_data, exclude):
    path = shared_data / "country_stats/country_stats.csv"
    exact, whole = by_hand(path, 20_000, exclude)
    share = shares(country_table(whole_rows(path), str(path)), exclude)
    assert {code: 20_000 * s for code, s in share.items()} == pytest.approx(exact, abs=1e-8)
    plenty = quotas(20_000, share, dict.fromkeys(share, 20_000))
    assert dict(zip(plenty.codes, plenty.drawn.tolist(), strict=True)) == whole
    if not exclude:  # reference figures of the table's author
        assert (whole["IN"], whole["CN"], whole["US"], whole["AQ"]) == (2405, 2383, 2181, 585)


def test_drawn_from_the_real_gallery_each_country_has_its_eq_11_count(shared_data):
    """Where the pool has enough and nothing is redistributed, exactly; where not, all that there
    is.
    """
    table = country_table(
        whole_rows(shared_data / "country_stats/country_stats.csv"), "country_stats.csv"
    )
    strata = stratify(open_pool(shared_data / "mp16_gps_gallery/coordinates.csv"), table)
    _, whole = by_hand(shared_data / "country_stats/country_stats.csv", 3000, ("AQ",))
    drawn = draw(strata, table, 3000, 0, ("AQ",), seed=1, redistribute=False)
    there, taken = strata.counts(), strata.counts(drawn.rows)
    assert taken | {"AQ": 0} == {code: min(whole.get(code, 0), there[code]) for code in there}
    assert len(set(drawn.rows.tolist())) == len(drawn.rows)
    full = draw(strata, table, 3000, 2, ("AQ",), seed=1)
    assert len(full.rows) == 3000
    assert all(
        n >= min(2, there[code]) for code, n in strata.counts(full.rows).items() if code != "AQ"
    )
    bits = full.summary()["entropy_bits"]
    assert bits["countries"]["drawn"] > bits["countries"]["pool"] + 0.5


def test_the_built_in_table_stands_without_any_other_file():
    share = shares(countries(), ("AQ",))
    assert sum(share.values()) == pytest.approx(1)
    assert set(sorted(share, key=share.get)[-4:]) == {"RU", "CN", "IN", "US"}
    assert {"PR", "HK", "XK", "SS"} <= set(share) and "AN" not in share
    code_of = CountryCodes()
    assert [code_of(x) for x in ("NA", "na", "DEU", "Deutschland", "Ivory Coast", "nowhere", "")] == [
        "NA", "NA", "DE", "DE", "CI", "", ""]  # fmt: skip


def test_apportioning_keeps_bounds_sum_and_proportions():
    rng = np.random.default_rng(0)
    for _ in range(200):
        k = int(rng.integers(1, 30))
        weights, high = rng.random(k) ** 3 * (rng.random(k) > 0.1), rng.integers(0, 60, k)
        low = np.minimum(rng.integers(0, 4, k), high)
        n = int(rng.integers(low.sum(), low.sum() + 200))
        counts = apportion(n, weights, low, high)
        most = np.where(weights > 0, high, low).sum()
        assert counts.sum() == min(n, most) and (counts >= low).all() and (counts <= high).all()
        free = (counts > low + 1) & (counts < high - 1)
        if free.sum() > 1:  # those away from their bounds are in proportion
            per_weight = counts[free] / weights[free]
            assert (per_weight.max() - per_weight.min()) * weights[free].min() <= 2.01
    with pytest.raises(UserError, match="minimum per country takes 6 samples, more than the 5"):
        apportion(5, [1, 1], [3, 3], [9, 9])
    assert apportion(5, [3.0, 1.0, 1.0], [0] * 3, [9] * 3).tolist() == [3, 1, 1]


def test_cells_are_drawn_by_log_population_and_the_rest_comes_last():
    rng = np.random.default_rng(0)
    people = np.array([10.0**6, 10.0**3, 0.0])
    total = sum(draw_cells(10, np.array([100, 100, 100]), people, rng) for _ in range(2000))
    assert total[2] == 0
    assert total[0] / total[1] == pytest.approx(np.log1p(1e6) / np.log1p(1e3), rel=0.05)
    assert draw_cells(7, np.array([2, 1, 5]), people, rng).tolist() == [2, 1, 4]


def test_cells_cover_the_globe_once():
    lat, lon = cell_centre(np.arange(64_800))
    assert (cell_of(lat, lon) == np.arange(64_800)).all()
    assert cell_of([90, -90, 0.0], [180, -180, 179.999]).tolist() == [179 * 360, 0, 90 * 360 + 359]
    assert entropy_bits([5, 5, 0, 5, 5]) == 2 and entropy_bits([]) == 0


@pytest.fixture
def frame():
    rng = np.random.default_rng(3)
    n = 400
    lat = np.concatenate([48 + rng.random(n), -1 - rng.random(n)])
    lon = np.concatenate([11 + rng.random(n), 36 + rng.random(n)])
    return pandas.DataFrame({"id": [f"p{i}" for i in range(2 * n)], "latitude": lat, "longitude": lon,
                             "country": ["DE"] * n + [""] * n, "note": ["a, \"b\"\nc"] * 2 * n})  # fmt: skip


def save(frame, path):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_parquet(path, row_group_size=100)


def ids(path):
    read = {".csv": pandas.read_csv, ".parquet": pandas.read_parquet,
            ".jsonl": lambda p: pandas.read_json(p, lines=True)}  # fmt: skip
    return read[path.suffix](path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_and_a_folder_of_parts_give_the_same_sample(tmp_path, frame, suffix):
    save(frame, tmp_path / f"whole{suffix}")
    save(frame[:300], tmp_path / f"parts/a{suffix}")
    save(frame[300:], tmp_path / f"parts/b{suffix}")
    for source in (tmp_path / f"whole{suffix}", tmp_path / "parts"):
        pool = open_pool(source)
        strata = stratify(pool, countries())
        drawn = draw(strata, countries(), 60, 5, (), seed=4)
        write_rows(pool, drawn.rows, tmp_path / "drawn.parquet")
        for other in ("drawn.csv", "drawn.jsonl"):
            write_rows(pool, drawn.rows, tmp_path / other)
            assert (
                ids(tmp_path / other)["id"].tolist()
                == ids(tmp_path / "drawn.parquet")["id"].tolist()
            )
        table = ids(tmp_path / "drawn.parquet")
        assert (
            table["id"].tolist() == [f"p{i}" for i in drawn.rows]
            and (table["note"] == 'a, "b"\nc').all()
        )
        taken = Counter(int(i) < 400 for i in drawn.rows)
        assert taken[True] > taken[False] >= 5  # rows without a country got the nearest town's
        assert drawn.rows.tolist() == draw(strata, countries(), 60, 5, (), 4).rows.tolist()
        assert drawn.rows.tolist() != draw(strata, countries(), 60, 5, (), 5).rows.tolist()


def test_a_sample_never_becomes_a_part_of_its_pool(tmp_path, frame):
    save(frame, tmp_path / "parts/a.jsonl")
    with (tmp_path / "parts/a.jsonl").open("a") as file:
        file.write('{"id": "torn", "lat')
    pool = open_pool(tmp_path / "parts")
    assert stratify(pool, countries()).lost == {"no usable coordinates": 1}
    with pytest.raises(UserError, match="would be a part of the pool"):
        write_rows(pool, np.array([0]), tmp_path / "parts/b.jsonl")
    write_rows(pool, np.array([0]), tmp_path / "parts/b.csv")


def test_the_command_writes_sample_report_and_figures(tmp_path, frame):
    frame.loc[0, "latitude"] = 123
    frame.loc[1, "longitude"] = None
    save(frame, tmp_path / "pool.csv")
    with (tmp_path / "pool.csv").open("a") as file:
        file.write("torn\n")
    words = [
        "data",
        "sample",
        str(tmp_path / "pool.csv"),
        "--n",
        "50",
        "--out",
        str(tmp_path / "s.csv"),
    ]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "s-report.json").read_text())
    assert (report["drawn"], report["pool_rows"]) == (50, 800)
    assert report["not_drawable"] == {
        "no usable coordinates": 2,
        "lines with too many or too few cells": 1,
    }
    germany = next(row for row in report["countries"] if row["iso2"] == "DE")
    assert germany["available"] == 398 and germany["requested"] < germany["drawn"]
    page = (tmp_path / "s-report.html").read_text()
    assert (
        "Germany" in page
        and page.count('class="world"') == 2
        and "http" not in page.replace("http-equiv", "")
    )
    itself = (f"--out {tmp_path}/pool.csv", "part of the pool")
    for option, message in (
        ("--exclude XX", "XX"),
        itself,
        ("--lat y", "no column y"),
        ("--shortfall x", "leave"),
    ):
        failed = CliRunner().invoke(app, [*words, *option.split()])
        assert isinstance(failed.exception, UserError) and message in str(failed.exception)
