"""The report is one file that opens offline, shows what the run recorded, and renders model output
as text only.
"""

import json
import math
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from geoagent_rl.answers.parse import Stage, render
from geoagent_rl.config import Config, to_yaml
from geoagent_rl.pages.charts import curve, moving_average, ticks
from geoagent_rl.pages.page import MAPS, asset, script_hash
from geoagent_rl.pages.recorded import ends_of
from geoagent_rl.pages.report import write_report
from geoagent_rl.pages.rollout_cards import choose
from geoagent_rl.pages.run_evaluation import unhedging
from geoagent_rl.types import UserError

EVIL = '<script>alert("x")</script><img src=http://evil.example/x onerror=alert(1)>'
STAGES = tuple(
    Stage(("white plates",), f"Reasoning {i} {EVIL}", name, "Low") for i, name in enumerate("ABC")
)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.names, self.attributes = set(), []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += attrs


def rollout(step, i, total, image):
    kind = "data" if i == 7 else "score"
    spatial = {
        "distance_km": 12.5 * i,
        "lat": 48.0,
        "lon": 11.0 + i,
        "level": "place",
        "name": EVIL,
    }
    semantic = {
        "levels": [{"level": "country", "similarity": 1.0}, {"level": "region", "similarity": 0.2}]
    }
    judged = {
        "stages": [
            {"judge": "A", "agree": True},
            {"judge": EVIL, "agree": False},
            {"not_asked": "too short"},
        ]
    }
    found = {
        "spatial": spatial if kind == "score" else {},
        "semantic": semantic,
        "consistency": judged,
        "format": {},
    }
    return {
        "step": step, "uid": f"photo-{i}", "index": 0, "image": str(image), "advantage": 0.5, "version": step,
        "truth": {"country": "Germany", "region": "Bayern", "place": EVIL, "lat": 48.1, "lon": 11.6},
        "text": render(STAGES, ("Germany", "Hessen", "Bonn")) if i != 7 else f"no tags {EVIL} \ud800", "total": total,
        "parts": {p: {"kind": kind, "score": total / 4, "reason": EVIL if i == 7 else "", "details": found[p]}
                  for p in ("spatial", "semantic", "consistency", "format")},
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    image = tmp_path / "photo.jpg"
    Image.effect_noise((900, 600), 60).save(image)
    config = Config()
    config.data.manifest = "data/train/manifest.parquet"
    (tmp_path / "config.yaml").write_text(to_yaml(config) + f"# {EVIL}\n")
    steps = [{"step": s, "reward_total_mean": 1 + s / 40, "reward_spatial_mean": s / 50, "kl": float("nan"),
              "step_seconds": 2.0, "reward_exposed_seconds": 0.0} for s in range(1, 41)]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in steps) + '{"step": 41, "rew'
    )
    (tmp_path / "sft_metrics.jsonl").write_text(
        '{"step": 1, "loss": 4.5}\n{"step": 2, "loss": 1.5}\n'
    )
    table = {"n": 10, "failed": 1, "hit": {"25": 0.3, "200": 0.5}, "median_km": 210.4, "geoscore": 2500.5,
             "geoscore_scale_km": 1805.0, "format_valid": 0.97, "mean_km": float("nan")}  # fmt: skip
    rewards = {"base": 0.0, "sft": 1.5, "sft_no_hedge": 1.9, "grpo": 2.5}
    (tmp_path / "eval.json").write_text(
        json.dumps(
            {s: {"heldout": {**table, "reward_total": r}, EVIL: table} for s, r in rewards.items()}
        )
    )
    images = [tmp_path / "gone.jpg", *[image] * 7]
    rows = [rollout(s, i, (i + s) % 8 / 2, images[i]) for s in (1, 39, 40) for i in range(8)]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path


def test_the_report_is_one_file_that_asks_nothing_of_the_network(run):
    path = write_report(run)
    page = path.read_text(encoding="utf-8")
    assert path == run / "report.html" and len(page) < 5e6
    assert "default-src 'none'" in page and "@import" not in page and "url(" not in page
    tags = Tags()
    tags.feed(page)
    asked = {
        v[:5] for name, v in tags.attributes if name in ("src", "href", "xlink:href", "srcset")
    }
    assert asked == {"data:", "#land", "#bord"}  # pictures, and the shapes of the map
    assert not [name for name, _ in tags.attributes if name.startswith("on")]


def test_a_job_whose_working_directory_is_gone_has_a_report(run, tmp_path, monkeypatch):
    """Ray removes it with a node that dies."""
    Image.new("RGB", (900, 600)).save(run / "photo.jpg")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "data:image/jpeg" in write_report(run).read_text(encoding="utf-8")


def test_everything_the_model_wrote_is_text(run):
    page = write_report(run).read_text(encoding="utf-8")
    assert EVIL not in page and "&lt;script&gt;alert(&#34;x&#34;)" in page
    tags = Tags()
    tags.feed(page)
    assert tags.names <= {
        *"html head meta title style body main h1 h2 h3 p div span dl dt dd b i svg path circle text".split(),
        *"table tr th td img details summary pre br g use defs figure figcaption script".split(),
    }
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    assert script == asset(MAPS) and script_hash(script) in page  # the only one that may run


def test_it_shows_curves_tables_map_and_rollouts(run):
    page = write_report(run).read_text(encoding="utf-8")
    assert (
        page.count('class="smooth"') == 5
    )  # total, spatial, step seconds, exposed seconds, SFT loss
    assert (
        'aria-label="total reward by step"' in page
        and "1.07 → 1.95" in page
        and "(×\u00a01.81)" in page
    )
    assert (
        "after SFT, hedges banned (control)" in page
        and "30.0%" in page
        and "GeoScore scale 1,805 km" in page
    )
    assert "+0.40 (40%) is reached without any training" in page
    assert page.count('class="truth"') == 7  # one per photograph that was located
    assert "data:image/jpeg;base64," in page and "no picture (missing)" in page
    assert "agrees</b>" in page and "disagrees</b>" in page and "judge not asked: too short" in page
    assert "at the start" in page and "Format: no tags" in page and "config.yaml as it ran" in page


@pytest.mark.parametrize("settings", [b"", b"\0\0", b"a: [", b"- a\n", b"\xff", b"[" * 5000])
def test_a_run_without_evaluation_rollouts_or_readable_settings_has_a_report(tmp_path, settings):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward_total_mean": 0.5}\n')
    (tmp_path / "config.yaml").write_bytes(settings)
    assert "total reward" in write_report(tmp_path).read_text()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither metrics.jsonl nor eval.json"):
        write_report(tmp_path)


def test_samples_are_best_median_worst_failed_and_early_and_no_photograph_twice(tmp_path):
    late = [rollout(9, i, i / 10, "") for i in range(20)]
    chosen = choose([rollout(1, i, i / 10, "") for i in range(20)], late)
    assert [label for label, _ in chosen] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 2 + [
        "failure"
    ] + ["at the start"] * 2
    assert len({row["uid"] for label, row in chosen if label != "at the start"}) == 9
    assert [row["total"] for label, row in chosen if label == "best"] == [1.9, 1.8, 1.7]


def test_only_the_ends_of_a_long_run_are_kept():
    early, late = ends_of({"step": s, "uid": i} for s in range(1, 1001) for i in range(4))
    assert (len(early), early[0]["step"], len(late), late[0]["step"], late[-1]["step"]) == (
        4,
        1,
        20,
        996,
        1000,
    )


def test_unhedging_is_silent_without_a_rise():
    rewards = {"sft": 2, "sft_no_hedge": 2, "grpo": 1}
    assert unhedging({stage: {"reward_total": value} for stage, value in rewards.items()}) == ""
    assert unhedging({"sft": {"reward_total": 2}}) == ""


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.93, 2.71), (-3, 7), (5, 5), (0, 0), (1e-9, 3e-9), (0, 123456)]
)
def test_ticks_span_the_data_with_few_round_values(low, high):
    values = ticks(low, high, 4)
    assert (
        values[0] <= low <= high <= values[-1]
        and 2 <= len(values) <= 8
        and values == sorted(set(values))
    )


def test_smoothing_keeps_a_straight_line_and_the_ends():
    line = [(x, 2.0 * x) for x in range(10)]
    assert moving_average(line, 5) == line


def test_curves_survive_odd_data():
    assert "no loss recorded" in curve([(1, math.nan)], "loss", "red")
    assert "smooth" in curve([(1, 0.0)], "loss", "red") and "&lt;b&gt;" in curve(
        [(1, 1), (2, 1)], "<b>", "red"
    )
