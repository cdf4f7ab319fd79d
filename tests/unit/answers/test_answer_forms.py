"""Every form of an answer: what is read from right ones, from wrong ones and from rubbish."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoagent_rl.answers.forms import FORMS, read
from geoagent_rl.answers.parse import NO_LEVELS

MUNICH = (48.1374, 11.5755)
GOOD = {
    "country_city": ("country: Germany\ncity: Munich", ("Germany", "", "Munich"), None),
    "country_region": ("$Germany, Bavaria$", ("Germany", "Bavaria", ""), None),
    "lat_lon": ("48.1374, 11.5755", NO_LEVELS, MUNICH),
    "country_city_lat_lon": (
        "Germany, Munich, 48.1374, 11.5755",
        ("Germany", "", "Munich"),
        MUNICH,
    ),
    "json_levels": (
        json.dumps({"Clues": ["a"], "Reasoning": "r", "FinalAnswer": "Germany; Bavaria; Munich"}),
        ("Germany", "Bavaria", "Munich"),
        None,
    ),
    "json_lat_lon": (
        '{"lat": 48.1374, "lon": 11.5755, "city": "Munich", "country": "Germany"}',
        ("Germany", "", "Munich"),
        MUNICH,
    ),
}


def tagged(answer):
    return f"<think>because</think><answer>{answer}</answer>"


def test_the_table_is_complete():
    assert GOOD.keys() == FORMS.keys()


@pytest.mark.parametrize("form", GOOD)
def test_a_full_answer_in_its_tags(form):
    answer, levels, point = GOOD[form]
    found = read(tagged(answer), form)
    assert (found.levels, found.point, found.format_ok) == (levels, point, True)


@pytest.mark.parametrize("form", GOOD)
def test_a_right_answer_without_tags_scores_and_breaks_the_format(form):
    answer, levels, point = GOOD[form]
    found = read(answer, form)
    assert (found.levels, found.point) == (levels, point)
    assert found.format_ok == (form == "json_levels")


@pytest.mark.parametrize("form", GOOD)
def test_of_two_answers_the_last_counts(form):
    answer, levels, point = GOOD[form]
    found = read(tagged("nonsense") + tagged(answer), form)
    assert (found.levels, found.point, found.format_ok) == (levels, point, False)


BROKEN = [
    ("country_city", "country: Germany", ("Germany", "", ""), None),
    ("country_city", "country: unknown\ncity: Munich", ("", "", "Munich"), None),
    ("country_region", "$Germany$", NO_LEVELS, None),
    ("country_region", "Germany, Bavaria", ("Germany", "Bavaria", ""), None),
    ("country_region", "$Germany, Bavaria, Munich$", NO_LEVELS, None),
    ("lat_lon", "somewhere in Bavaria", NO_LEVELS, None),
    ("lat_lon", "148.1, 11.5", NO_LEVELS, None),
    ("lat_lon", "1.0, 2.0 or 48.1374, 11.5755", NO_LEVELS, MUNICH),
    ("country_city_lat_lon", "48.1374, 11.5755", NO_LEVELS, MUNICH),
    ("country_city_lat_lon", "Germany, Munich", NO_LEVELS, None),
    ("json_levels", '{"FinalAnswer": "Germany; Bavaria; Munich"}', GOOD["json_levels"][1], None),
    ("json_levels", "Germany; Bavaria; Munich", GOOD["json_levels"][1], None),
    ("json_levels", '{"Clues": [], "Reasoning": "", "FinalAnswer": ""}', NO_LEVELS, None),
    ("json_lat_lon", '{"city": "Munich", "country": "Germany"}', ("Germany", "", "Munich"), None),
    ("json_lat_lon", '{"lat": "x", "lon": 1}', NO_LEVELS, None),
    ("json_lat_lon", "{", NO_LEVELS, None),
]


@pytest.mark.parametrize(("form", "answer", "levels", "point"), BROKEN)
def test_what_is_left_of_a_broken_answer(form, answer, levels, point):
    found = read(tagged(answer), form)
    assert (found.levels, found.point, found.format_ok) == (levels, point, False)
    assert found.problem


def test_coordinates_in_other_notations():
    for answer in (
        "Latitude: 48.1374\nLongitude: 11.5755",
        "48.1374° N, 11.5755° E",
        '{"latitude": 48.1374, "longitude": 11.5755}',
        "[48.1374, 11.5755]",
    ):
        assert read(tagged(answer), "lat_lon").point == pytest.approx(MUNICH)


@pytest.mark.parametrize("form", ["levels", *FORMS])
@given(text=st.text() | st.text('<>/answerthik{}":,;$0.1-\n', max_size=60))
def test_no_text_breaks_a_reader(form, text):
    found = read(text, form)
    assert len(found.levels) == 3
    assert found.format_ok == (not found.problem)


@pytest.mark.parametrize("form", ["levels", *FORMS])
@pytest.mark.parametrize("part", ["\n", "\r\n", " ", "1, ", "country:", "{", "°", ";", "`"])
def test_a_flood_of_anything_is_read_in_linear_time(form, part):
    start = time.process_time()
    read(tagged(part * (40_000 // len(part))), form)
    assert time.process_time() - start < 1.0
