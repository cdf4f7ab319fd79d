"""Every reward formula against values worked out by hand, to 1e-9, and what each bad answer
earns.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from geoagent_rl.answers.hedge import is_hedge, without_hedges
from geoagent_rl.answers.parse import Parsed, Stage, parse
from geoagent_rl.config.reward import (
    ConsistencyConfig,
    FormatConfig,
    RewardConfig,
    SemanticConfig,
    SpatialConfig,
    Weights,
)
from geoagent_rl.rewards import consistency, semantic, spatial
from geoagent_rl.rewards import format as format_part
from geoagent_rl.rewards.services import JudgeItem, LevelPair, Similarity, Verdict
from geoagent_rl.rewards.total import total
from geoagent_rl.types import Outcome, Truth

MUNICH = Truth("Germany", "Bayern", "München", 48.0, 11.0)
LEVELS = ("Germany", "Bavaria", "Munich")
DEGREE_KM = 6371.0 * math.pi / 180  # one degree of latitude


def match(lat, lon, level="place"):
    return SimpleNamespace(
        lat=lat, lon=lon, level=level, name="X", admin1="", country_code="DE", provider="gazetteer"
    )


def near(value):
    return pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 0.5, 1.0, 3.0, 40.0])
def test_spatial_is_exp_of_minus_distance_over_tau(degrees):
    found = spatial.outcome(LEVELS, match(48.0 - degrees, 11.0), MUNICH, SpatialConfig())
    assert found.kind == "score"
    assert found.details["distance_km"] == near(degrees * DEGREE_KM)
    assert found.score == near(math.exp(-degrees * DEGREE_KM / 200.0))


def test_spatial_worked_by_hand():
    # 1 degree of latitude = 111.19492664455873 km; exp(-111.19492664455873 / 200)
    found = spatial.outcome(LEVELS, match(49.0, 11.0, "region"), MUNICH, SpatialConfig())
    assert found.score == near(0.57351302386829815)
    assert (found.details["level"], found.details["provider"]) == ("region", "gazetteer")
    half = spatial.outcome(
        LEVELS, match(49.0, 11.0), MUNICH, SpatialConfig(tau_km=111.19492664455873 / math.log(2))
    )
    assert half.score == near(0.5)


@pytest.mark.parametrize("levels", [LEVELS, ("", "", "")])
def test_spatial_of_an_unknown_place_is_a_data_failure(levels):
    found = spatial.outcome(levels, None, MUNICH, SpatialConfig())
    assert (found.kind, found.score) == ("data", 0.0) and found.reason


def sims(*values):
    return tuple(None if v is None else Similarity(v, "encoder") for v in values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 1.0, 1.0), 1.0),
        ((0.9, 0.8, 0.4), 0.1 * 0.9 + 0.6 * 0.8 + 0.3 * 0.4),
        ((0.7, 0.5, 0.25), 0.1 * 0.7 + 0.6 * 0.5 + 0.3 * 0.25),  # gates are inclusive
        ((0.69999, 1.0, 1.0), 0.0),  # a wrong country earns nothing, whatever follows
        ((0.9, 0.49999, 1.0), 0.09),  # a wrong region: the country alone
        ((0.9, 0.8, -0.3), 0.09 + 0.48),  # cosines are clipped
        ((1.2, 1.0, 1.0), 1.0),
        ((0.9, None, None), 0.09),  # levels the answer does not name
    ],
)
def test_semantic_weights_and_gates(values, expected):
    found = semantic.outcome(LEVELS, MUNICH.levels, sims(*values), SemanticConfig())
    assert found.score == near(expected)


@pytest.mark.parametrize(
    ("truth", "values", "expected"),
    [
        (
            ("Zambia", "Lusaka Province", ""),
            (1.0, 1.0, None),
            1.0,
        ),  # two levels do not cap the reward at 0.7
        (("Zambia", "Lusaka Province", ""), (0.8, 0.6, None), (0.1 * 0.8 + 0.6 * 0.6) / 0.7),
        (("Singapore", "", "Singapore"), (0.8, None, 0.6), (0.1 * 0.8 + 0.3 * 0.6) / 0.4),
        (
            ("Singapore", "", "Singapore"),
            (0.6, None, 1.0),
            0.0,
        ),  # the country still gates the place
        (("", "Bayern", "München"), (None, 0.9, 0.5), (0.6 * 0.9 + 0.3 * 0.5) / 0.9),
        (("Zambia", "unknown", ""), (0.9, None, None), 0.9),
    ],
)
def test_semantic_missing_truth_levels_renormalise(truth, values, expected):
    assert semantic.outcome(LEVELS, truth, sims(*values), SemanticConfig()).score == near(expected)


def test_semantic_without_names_in_the_answer_is_a_data_failure():
    found = semantic.outcome(
        ("", "unknown", "?"), MUNICH.levels, sims(None, None, None), SemanticConfig()
    )
    assert (found.kind, found.score) == ("data", 0.0)


@pytest.mark.parametrize("levels", [LEVELS, ("", "", "")])
def test_semantic_is_left_out_where_the_truth_has_no_names(levels):
    """Whatever the answer is: the samples of a group must stay comparable."""
    found = semantic.outcome(levels, ("", "", ""), sims(None, None, None), SemanticConfig())
    assert (found.kind, found.score) == ("left_out", None)


def test_a_part_that_is_left_out_is_made_up_for_by_the_others():
    config = RewardConfig()
    parts = {
        "spatial": Outcome("score", 0.5),
        "semantic": Outcome("left_out", None),
        "consistency": Outcome("score", 1.0),
        "format": Outcome("score", 1.0),
    }
    assert total(parts, config) == near((0.5 * 1.5 + 0.5 + 0.5) * 3.5 / 2.5)


def test_semantic_asks_with_context_and_never_about_hedges():
    country, region, place = semantic.pairs(("Germany ", "unknown region", "Munich"), MUNICH.levels)
    assert country == LevelPair("country", "Germany", "Germany")
    assert region is None
    assert place == LevelPair("place", "Munich", "München", ("Germany", "Bayern"))


@pytest.mark.parametrize(
    ("characters", "expected"),
    [
        (89, 0.0),
        (90, 1 / (1 + math.exp(4))),  # 0.0179862
        (145, 0.5),
        (200, 1 / (1 + math.exp(-4))),  # 0.9820138
        (201, 1.0),
        (0, 0.0),
    ],
)
def test_length_factor_has_the_documented_constants(characters, expected):
    assert consistency.length_factor(characters, ConsistencyConfig()) == near(expected)


def stage(conclusion, characters=300):
    return Stage(("clue",), "x" * characters, conclusion, "Low")


def parsed(*conclusions, characters=300):
    return Parsed(LEVELS, tuple(stage(c, characters) for c in conclusions), True, "")


def verdicts(*conclusions):
    return tuple(None if c is None else Verdict(c, 0.1) for c in conclusions)


def consistency_score(own, judged, same=(None, None, None), characters=300):
    return consistency_outcome(parsed(*own, characters=characters), verdicts(*judged), same).score


def consistency_outcome(answer, judged, same=(None, None, None), truth=MUNICH.levels, **settings):
    config = ConsistencyConfig(**settings)
    targets = consistency.targets(answer.stages, truth, config)
    return consistency.outcome(answer, targets, judged, same, config)


def asked(stages, truth=MUNICH.levels, **settings):
    config = ConsistencyConfig(**settings)
    return consistency.questions(stages, consistency.targets(stages, truth, config), config)


@pytest.mark.parametrize(
    ("own", "judged", "same", "expected"),
    [
        (LEVELS, LEVELS, (None, None, None), 1.0),
        (
            LEVELS,
            ("germany.", "BAVARIA", " Munich"),
            (None, None, None),
            1.0,
        ),  # equal as normalised text
        (LEVELS, ("Deutschland", "Bayern", "Hamburg"), (True, True, False), 0.7),
        (LEVELS, ("Germany", "Saxony", "Munich"), (None, False, None), 0.4),
        (
            ("unknown", "unknown", "unknown"),
            ("unknown", "unknown", "unknown"),
            (None, None, None),
            0.0,
        ),
        (("Germany", "unknown", "Munich"), ("Germany", None, "Munich"), (None, None, None), 0.4),
        (LEVELS, ("", "unknown", "Munich"), (None, None, None), 0.3),
    ],
)
def test_consistency_weights_and_agreement(own, judged, same, expected):
    assert consistency_score(own, judged, same) == near(expected)


def test_consistency_multiplies_each_stage_by_its_length_factor():
    middle = (stage("Germany", 145), stage("Bavaria", 201), stage("Munich", 90))
    found = consistency_outcome(Parsed(LEVELS, middle, True, ""), verdicts(*LEVELS))
    assert found.score == near(0.1 * 0.5 + 0.6 * 1.0 + 0.3 / (1 + math.exp(4)))


def test_consistency_padding_with_spaces_earns_nothing():
    padded = Stage((), "short" + " " * 500, "Germany", "Low")
    assert asked((padded, padded, padded)) == (None, None, None)


def test_the_agent_sees_reasoning_and_earlier_conclusions_only():
    assert asked(parsed("Germany", "Bavaria", "unknown").stages) == (
        JudgeItem("country", (), "x" * 300),
        JudgeItem("region", ("Germany",), "x" * 300),
        None,  # a hedge cannot earn, so nobody is asked
    )


def test_consistency_compares_names_within_the_policys_own_conclusions():
    pairs = consistency.comparisons(
        LEVELS, verdicts("Germany", "Bayern", None), ConsistencyConfig()
    )
    assert pairs == (None, LevelPair("region", "Bayern", "Bavaria", ("Germany",)), None)


def test_consistency_without_stages_is_a_data_failure():
    found = consistency_outcome(Parsed(LEVELS, (), False, "broken JSON"), (), ())
    assert (found.kind, found.score, found.reason) == ("data", 0.0, "broken JSON")


def test_format_is_one_or_zero_with_the_reason():
    assert format_part.outcome(parsed(*LEVELS), "", FormatConfig()).score == 1.0
    bare = "Germany; Bavaria; Munich"
    found = format_part.outcome(parse(bare), bare, FormatConfig())
    assert (found.kind, found.score) == ("data", 0.0) and found.reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "???",
        "-",
        "Unknown",
        "unknown city",
        "N/A",
        "none",
        "The exact location cannot be determined",
    ]
    + ["The location cannot be determined from the image", "Not identifiable in this photograph"]
    + [
        "Unclear",
        "Not possible",
        "Can't tell",
        "No idea",
        "未知",
        "The region is uncertain",
        "Somewhere",
        "Not sure",
    ],
)
def test_hedges_name_no_place(text):
    assert is_hedge(text)


@pytest.mark.parametrize(
    "text", ["Germany", "Nan", "Notting Hill", "Unna", "No", "Nowa Huta", "日本", "A Coruña"]
)
def test_names_are_not_hedges(text):
    assert not is_hedge(text)
    assert without_hedges((text,)) == (text,)


def parts(**scores):
    return {
        n: Outcome("infra", None, "down") if s is None else Outcome("score", s)
        for n, s in scores.items()
    }


PERFECT = dict(spatial=1.0, semantic=1.0, consistency=1.0, format=1.0)


def test_total_is_the_weighted_sum_and_at_most_three_and_a_half():
    assert total(parts(**PERFECT), RewardConfig()) == near(3.5)
    scores = dict(spatial=0.2, semantic=0.3, consistency=0.4, format=1.0)
    assert total(parts(**scores), RewardConfig()) == near(1.5 * 0.2 + 0.3 + 0.5 * 0.4 + 0.5)


@pytest.mark.parametrize("name", list(PERFECT))
def test_a_failed_required_part_makes_the_sample_unscorable(name):
    assert total(parts(**{**PERFECT, name: None}), RewardConfig()) is None


def test_a_failed_optional_part_is_left_out_and_the_rest_rescaled():
    config = RewardConfig(required=("spatial", "semantic", "format"))
    scores = dict(spatial=0.5, semantic=0.5, consistency=None, format=0.5)
    assert total(parts(**scores), config) == near(0.5 * 3.5)
    assert total(parts(**{**scores, "spatial": 1.0}), config) == near(
        (1.5 + 0.5 + 0.25) * 3.5 / 3.0
    )
    assert total(parts(**dict.fromkeys(PERFECT)), RewardConfig(required=())) is None


def test_parts_of_weight_zero_count_for_nothing():
    config = RewardConfig(weights=Weights(consistency=0.0))
    assert total(parts(spatial=1.0, semantic=1.0, format=1.0), config) == near(3.0)
    with pytest.raises(KeyError):
        total(parts(spatial=1.0, semantic=1.0), config)
