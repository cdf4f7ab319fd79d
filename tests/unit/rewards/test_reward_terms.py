"""The terms of other recipes: what they pay, on values worked out by hand."""

import doctest

import pytest

from geoagent_rl.answers.forms import read
from geoagent_rl.rewards import terms
from geoagent_rl.types import Prompt, Rollout, Truth

TRUTH = Truth("Germany", "Bavaria/Bayern", "Munich", 48.1374, 11.5755)


async def paid(term, text, form="levels", columns=None):
    prompt = Prompt("p", "", TRUTH, columns or {})
    rollout = Rollout("p", 0, (), (), (), text, "stop", 0)
    return (await term(prompt, rollout, read(text, form), None)).score


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(terms).failed == 0


@pytest.mark.parametrize(
    ("answer", "score"),
    [("48.1374, 11.5755", 1.0), ("48.8566, 2.3522", 0.2), ("-33.9, 151.2", 0.0), ("Munich", 0.0)],
)
async def test_geohash_pays_by_the_common_prefix(answer, score):
    text = f"<think>x</think><answer>{answer}</answer>"
    assert await paid(terms.geohash, text, "lat_lon") == pytest.approx(score)


async def test_length_counts_letters_alone_and_stops_at_one():
    assert await paid(terms.length, "<think>ab, c.\n d</think>") == pytest.approx(0.004)
    assert await paid(terms.length, f"<think>{'a' * 5000}</think>") == 1.0


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<think>a road</think><answer>Germany; Bavaria; Munich</answer>", 1.0),
        ("<think>a road</think><answer>Germany; unknown; Munich</answer>", 0.0),
        (
            "<think>I cannot determine the town</think><answer>Germany; Bavaria; Munich</answer>",
            0.0,
        ),
        ("<think>an unknown brand of car</think><answer>Germany; Bavaria; Munich</answer>", 1.0),
        ('{"Reasoning": "an unknown brand", "FinalAnswer": "Germany; Bavaria; Munich"}', 1.0),
        ('{"Reasoning": "a road", "FinalAnswer": "Germany; unknown; Munich"}', 0.0),
    ],
)
async def test_declining_pays_nothing(text, score):
    assert await paid(terms.no_unknown, text) == score


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("$Germany, Bavaria$", 1.0),
        ("$germany, Bayern region$", 1.0),
        ("$Germany, Bavarja$", 1.0),
        ("$Germany, Upper Bavaria$", 0.0),
        ("$Austria, Bavaria$", 0.0),
        ("$Germany$", 0.0),
    ],
)
async def test_country_and_region_together(answer, score):
    text = f"<answer>{answer}</answer>"
    assert await paid(terms.country_region, text, "country_region") == score


async def test_a_region_has_the_names_of_the_manifest_too():
    text, names = "<answer>$Germany, Baviera$</answer>", {"aliases": "Freistaat/Baviera"}
    assert await paid(terms.country_region, text, "country_region", names) == 1.0
    assert await paid(terms.country_region, text, "country_region", {"aliases": "/"}) == 0.0


async def test_visual_match_is_the_share_of_entities_named():
    text = "<think>A red tram near the church</think><answer>x</answer>"
    found = await paid(terms.visual_match, text, columns={"entities": "Tram; church; palm tree"})
    assert found == pytest.approx(2 / 3)
    assert await paid(terms.visual_match, text) == 0.0
