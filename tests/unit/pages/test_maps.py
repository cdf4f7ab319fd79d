"""Maps: lines go the short way, their colour says how far, the land is whole and small."""

import json
import re

from geoagent_rl.pages.maps import cell_map, place_map, world_map
from geoagent_rl.pages.page import ASSETS, land, write_page

WORLD = ASSETS / "natural_earth" / "world.json"


def outline_of(d):
    """The points of one outline of a path of whole tenths, each from the one before."""
    numbers = [int(n) for n in re.findall(r"-?\d+", d)]
    x, y, points = 0, 0, []
    for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
        x, y = x + dx, y + dy
        points.append((x, y))
    return points


def test_the_map_joins_places_across_the_date_line_the_short_way():
    page = world_map([((-17.7, 178.0), (-14.3, -170.7), "Fiji <b>")])
    assert "Fiji &lt;b&gt;" in page
    (found,) = re.findall(r'class="miss far-3" d="M([\d.]+) [\d.]+L([\d.]+) [\d.]+M', page)
    assert abs(float(found[0]) - float(found[1])) < 40


def test_the_colour_of_a_line_says_how_far_apart_its_ends_are():
    truth = (48.0, 11.0)
    pairs = [(truth, (48.0 + km / 111.2, 11.0), "") for km in (20, 150, 700, 2400, 2600)]
    found = re.findall(r'class="miss far-(\d)"', world_map(pairs))
    assert found == ["0", "1", "2", "3", "4"]


def test_no_outline_runs_across_the_map_and_none_is_open():
    shapes = json.loads(WORLD.read_text())
    for outline in shapes["land"].split("z")[:-1]:
        points = outline_of(outline)
        gaps = [abs(b[0] - a[0]) for a, b in zip(points, points[1:] + points[:1], strict=True)]
        assert max(gaps) < 500, points[0]  # 20 degrees
    assert WORLD.stat().st_size < 200_000 and len(land()) < 200_000


def test_cells_are_darker_the_more_they_hold():
    page = cell_map([(0.5, 0.5, 1), (1.5, 0.5, 1000)], "map of <the> pool")
    shades = [float(value) for value in re.findall(r'opacity="([\d.]+)"', page)]
    assert len(shades) == 2 and shades[0] < shades[1] and "map of &lt;the&gt; pool" in page


def test_a_place_alone_is_a_mark_without_a_line():
    page = place_map((48.0, 11.0), "here", "map", true=False)
    assert 'class="guess"' in page and 'class="truth"' not in page and 'class="miss' not in page


def test_only_a_page_with_a_map_carries_land_and_script(tmp_path):
    write_page(tmp_path / "a.html", "none", ["<p>no map</p>"])
    write_page(tmp_path / "b.html", "map", [place_map((0.0, 0.0), "", "map", true=True)])
    a, b = ((tmp_path / name).read_text() for name in ("a.html", "b.html"))
    assert "<script" not in a and 'id="land"' not in a and "script-src 'none'" in a
    assert b.count("<script") == 1 and b.count('id="land"') == 1
