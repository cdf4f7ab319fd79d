"""The forms of the authors' code and of other projects against values worked out by hand, to 1e-9.

The paper's own forms, which are the defaults, are in test_rewards.py.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import yaml

from geoagent_rl import config as configuration
from geoagent_rl.answers.parse import NO_STAGE, Parsed, Stage, parse
from geoagent_rl.config.reward import (
    ConsistencyConfig,
    ExactMatchConfig,
    FormatConfig,
    SemanticConfig,
    SpatialConfig,
)
from geoagent_rl.rewards import consistency, exact_match, semantic, spatial
from geoagent_rl.rewards import format as format_part
from geoagent_rl.rewards.distance import earned
from geoagent_rl.rewards.services import JudgeItem, Similarity, Verdict
from geoagent_rl.rewards.total import total
from geoagent_rl.types import Outcome, Truth
from tests.support.paths import CONFIGS

MUNICH = Truth("Germany", "Bayern", "München", 48.0, 11.0)
LEVELS = ("Germany", "Bavaria", "Munich")
DEGREE_KM = 111.19492664455873  # of latitude: 6371 pi / 180


def near(value):
    return pytest.approx(value, abs=1e-9)


def at(lat, lon=11.0, level="place"):
    return SimpleNamespace(
        lat=lat, lon=lon, level=level, name="X", admin1="", country_code="DE", provider="gazetteer"
    )


@pytest.fixture(scope="module")
def paper_code():
    return configuration.load(CONFIGS / "paper-code.yaml").reward


# spatial


@pytest.mark.parametrize(
    ("km", "score"),
    [
        (0.0, 1.0),
        (10.0, 0.951229424500714),
        (200.0, 0.36787944117144233),
        (1999.9, 4.5422628e-05),
        (2000.0, 0.0),
    ],
)
def test_the_codes_spatial_reward_and_its_cut(paper_code, km, score):
    assert math.isclose(math.exp(-10 * 10.0 / 2000), math.exp(-10.0 / paper_code.spatial.tau_km))
    found = spatial.outcome(
        LEVELS, at(48.0), MUNICH, paper_code.spatial, at(48.0 + km / DEGREE_KM * (1 + 1e-15))
    )
    assert found.score == near(score)


def test_a_geocoded_truth_replaces_the_coordinates(paper_code):
    assert spatial.outcome(LEVELS, at(49.0), MUNICH, paper_code.spatial, at(49.0)).score == 1.0
    assert spatial.outcome(LEVELS, at(49.0), MUNICH, SpatialConfig(), None).score == near(
        0.57351302386829815
    )
    lost = spatial.outcome(LEVELS, at(49.0), MUNICH, paper_code.spatial, None)
    assert (lost.kind, lost.score) == ("data", 0.0) and "truth" in lost.reason


# semantic

BOTH = {"gates": (0.7, 0.5)}


@pytest.mark.parametrize(
    ("values", "paper", "code"),
    [
        ((0.9, 0.8, 0.4), 0.69, 0.69),
        ((0.6, 1.0, 1.0), 0.0, 0.06),  # a country below its gate: the code still pays for it
        ((0.9, 0.4, 1.0), 0.09, 0.33),
        ((0.7, 0.5, 0.2), 0.43, 0.43),
        ((0.0, 1.0, 1.0), 0.0, 0.0),
    ],
)
def test_similarities_below_their_gate(values, paper, code):
    sims = [Similarity(v, "encoder") for v in values]
    for counts, expected in ((False, paper), (True, code)):
        config = SemanticConfig(below_gate_counts=counts)
        assert semantic.outcome(LEVELS, MUNICH.levels, sims, config).score == near(expected)


def test_a_truth_of_two_levels_is_capped_only_on_request():
    sims = [Similarity(1.0, "encoder"), Similarity(1.0, "encoder"), None]
    truth = ("Zambia", "Lusaka Province", "")
    for missing, expected in (("rescale", 1.0), ("cap", 0.7)):
        found = semantic.outcome(LEVELS, truth, sims, SemanticConfig(missing_truth=missing))
        assert found.score == near(expected)


# consistency


def stage(conclusion, characters=300):
    return Stage(("clue",), "x" * characters, conclusion, "Low")


def consistent(
    own, judged, truth=MUNICH.levels, characters=300, same=(None, None, None), **settings
):
    config = ConsistencyConfig(**settings)
    answer = Parsed(LEVELS, tuple(stage(c, characters) for c in own), True, "")
    targets = consistency.targets(answer.stages, truth, config)
    verdicts = [None if c is None else Verdict(c, 0.1) for c in judged]
    return consistency.outcome(answer, targets, verdicts, same, config)


@pytest.mark.parametrize(
    ("own", "judged", "score"),
    [
        (LEVELS, LEVELS, 1.0),
        (
            ("New York", "Bavaria", "Munich"),
            ("NewYork", "bavaria", "Munich"),
            0.4,
        ),  # spaces do not count, case does
        (LEVELS, ("Deutschland", "Bayern", "München"), 0.0),
        (("unknown",) * 3, ("unknown",) * 3, 1.0),  # two of a kind agree, whatever they say
        (LEVELS, ("Germany.", "Bavaria", "Munich"), 0.9),
    ],
)
def test_agreement_of_strings_as_in_the_code(own, judged, score):
    assert consistent(own, judged, agreement="string").score == near(score)


def test_as_strings_nobody_asks_the_gazetteer_and_hedges_are_asked_about():
    config = ConsistencyConfig(agreement="string")
    stages = (stage("unknown"), stage("Bavaria"), stage("Munich", 89))
    targets = consistency.targets(stages, MUNICH.levels, config)
    asked = consistency.questions(stages, targets, config)
    assert asked == (
        JudgeItem("country", (), "x" * 300),
        JudgeItem("region", ("unknown",), "x" * 300),
        None,
    )
    verdicts = [Verdict("France", 0.1), Verdict("Bayern", 0.1), None]
    assert consistency.comparisons(targets, verdicts, config) == (None, None, None)


@pytest.mark.parametrize(
    ("own", "judged", "truth", "score"),
    [
        (
            ("France", "Bavaria", "Munich"),
            ("germany", "Bayern", "München"),
            MUNICH.levels,
            1.0,
        ),  # own does not count
        (LEVELS, ("Germany", "Saxony", "München"), MUNICH.levels, 0.4),
        (
            LEVELS,
            ("Germany", "Bayern", None),
            ("Germany", "Bayern", ""),
            1.0,
        ),  # two levels: rescaled
        (LEVELS, ("Germany", "Saxony", None), ("Germany", "Bayern", ""), 0.1 / 0.7),
        (("unknown",) * 3, ("Germany", "unknown", "unknown"), MUNICH.levels, 0.1),
    ],
)
def test_ground_truth_mode(own, judged, truth, score):
    assert consistent(own, judged, truth, against="truth").score == near(score)


@pytest.mark.parametrize(
    ("against", "truth", "score"),
    [
        ("own", LEVELS, 0.4),
        ("truth", ("Germany", "Bavaria", "Munich"), 0.4),
        ("truth", ("Germany", "", "Munich"), 1.0),  # nothing is lost where the truth lacks it too
    ],
)
def test_a_stage_that_is_left_out_earns_nothing_and_the_others_as_ever(against, truth, score):
    config = ConsistencyConfig(against=against)
    stages = (stage("Germany"), NO_STAGE, stage("Munich"))
    targets = consistency.targets(stages, truth, config)
    asked = consistency.questions(stages, targets, config)
    assert [item and item.earlier for item in asked] == [(), None, ("Germany",)]
    answer = Parsed(LEVELS, stages, False, "no stage RegionalGuess")
    verdicts = [Verdict("Germany", 0.1), None, Verdict("Munich", 0.1)]
    found = consistency.outcome(answer, targets, verdicts, (None,) * 3, config)
    assert found.kind == "score" and found.score == near(score)


def test_ground_truth_mode_without_a_true_name_has_nothing_to_judge():
    config = ConsistencyConfig(against="truth")
    assert consistency.nothing_to_judge(("", "unknown", ""), config)
    assert not consistency.nothing_to_judge(("", "", "Munich"), config)
    assert not consistency.nothing_to_judge(("", "", ""), ConsistencyConfig(against="own"))


@pytest.mark.parametrize(
    ("characters", "factor"),
    # sigmoid(8 ((n - 90) / 110 - 0.5)): at 117.5 it is sigmoid(-2), at 172.5 sigmoid(2)
    [
        (89, 0.0),
        (90, 0.01798620996209156),
        (112, 0.08317269649392238),
        (145, 0.5),
        (178, 0.9168273035060776),
    ]
    + [(200, 0.9820137900379085), (201, 1.0)],
)
def test_the_length_factors_constants(paper_code, characters, factor):
    assert consistency.length_factor(characters, paper_code.consistency) == near(factor)


# format

THINK = '<think>{"a": 1}</think>'


@pytest.mark.parametrize(
    ("text", "blocks", "answer"),
    [
        (f"{THINK}<answer>A; B; C</answer>", 1.0, 1.0),
        (f"{THINK}\n\n<answer>A; B</answer>", 1.0, 1.0),
        (
            f"{THINK} , <answer>A; B; C</answer>",
            0.0,
            1.0,
        ),  # the comma of their own example fails their own pattern
        (f"{THINK}<answer>A; B; C</answer>\n", 0.0, 1.0),
        (f" {THINK}<answer>A; B; C</answer>", 0.0, 1.0),
        (f"{THINK}<answer>A；B；C</answer>", 1.0, 0.0),
        (f"{THINK}<answer>A; B; C; D</answer>", 1.0, 0.0),
        (f"{THINK}<answer>A; ; C</answer>", 1.0, 1.0),  # blank parts do not count
        (f"{THINK}<answer>Zambia; Lusaka Province;</answer>", 1.0, 1.0),
        (f"{THINK}<answer>A; ;</answer>", 1.0, 0.0),
        (f"{THINK}<answer>A</answer>", 1.0, 0.0),
        (f"{THINK}<answer>A</answer><answer>A; B; C</answer>", 1.0, 0.0),  # the first answer counts
        (f"{THINK}<answer>A; B; C", 0.0, 0.0),
        ("<answer>A; B; C</answer>", 0.0, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_the_two_format_rewards_of_the_code(text, blocks, answer):
    found = format_part.outcome(parse(text), text, FormatConfig(style="tags"))
    assert (found.score, bool(found.reason)) == (blocks, not blocks)
    found = format_part.answer_outcome(text)
    assert (found.score, bool(found.reason)) == (answer, not answer)


# baselines


def exact(style, levels, truth=MUNICH, match=None, **settings):
    return exact_match.outcome(levels, match, truth, ExactMatchConfig(style=style, **settings))


@pytest.mark.parametrize(
    ("levels", "score"),
    [
        (("Germany", "Saxony", "München"), 1.0),  # GLOBE knows no region
        (("germany", "", "Munchen"), 1.0),
        (("Germany", "Bayern", "Munich"), 0.2),  # an alias is wrong
        (("Germany", "Bayern", "München Ost"), 0.2),  # 7 of 11 characters are less than 0.7
        (("Germany", "Bayern", "Münchens"), 1.0),  # 7 of 8
        (("Deutschland", "Bayern", "München"), 0.0),
        (("Germany", "", ""), 0.2),
    ],
)
def test_globe_style(levels, score):
    assert exact("globe", levels).score == near(score)


@pytest.mark.parametrize(
    ("levels", "score"),
    [
        (("Germany", "Bayern", "Munchen"), 1.0),
        (("Germany", "Bayern", "Munich"), 0.5),
        (("Germany", "Bavaria", "Munich"), 0.25),
        (("France", "Oberbayern", "Paris"), 0.0),  # whole words only
        (("France", "", "Altstadt, München"), 1.0),
        (("France", "", ""), 0.0),
    ],
)
def test_geovista_style(levels, score):
    assert exact("geovista", levels).score == near(score)


def test_geovista_style_cannot_read_other_scripts():
    japan = Truth("日本", "東京都", "新宿区", 35.7, 139.7)
    assert exact("geovista", ("日本", "東京都", "新宿区"), japan).score == 0.0


@pytest.mark.parametrize("style", ["globe", "geovista", "gre"])
def test_baselines_give_nothing_for_no_place(style):
    found = exact(style, ("", "", ""))
    assert (found.kind, found.score) == ("data", 0.0)


def test_gre_style():
    assert exact("gre", LEVELS, match=at(48.0)).score == 1.0
    # one degree of latitude at 200 km: 2 / (1 + e^0.5559746332227937)
    assert exact("gre", LEVELS, match=at(49.0)).score == near(0.7289587250550800)
    assert earned(200.0, "logistic", 200.0) == near(2 / (1 + math.e))
    assert earned(20_000.0, "logistic", 0.001) == 0.0  # and no overflow
    assert exact("gre", LEVELS, match=None).kind == "data"


# the configurations


def test_the_codes_maximum_is_five_of_which_two_are_format(paper_code):
    ones = {name: Outcome("score", 1.0) for name in asdict(paper_code.weights)}
    assert total(ones, paper_code) == near(5.0)
    zeros = ones | {"format": Outcome("score", 0.0), "answer_format": Outcome("score", 0.0)}
    assert total(zeros, paper_code) == near(3.0)
    paper = configuration.load(CONFIGS / "paper.yaml").reward
    assert total(ones, paper) == near(3.0)


def flat(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_paper_code_differs_from_paper_in_the_documented_values_only():
    both = [
        asdict(configuration.load(CONFIGS / name)) for name in ("paper.yaml", "paper-code.yaml")
    ]
    paper, code = (dict(flat(config)) for config in both)
    assert {key for key in paper if paper[key] != code[key]} == {
        "run.dir", "policy.model", "sft.epochs", "reward.required",
        "reward.weights.format", "reward.weights.answer_format", "reward.format.style",
        "reward.spatial.truth", "reward.spatial.cut_km",
        "reward.semantic.below_gate_counts", "reward.semantic.missing_truth", "reward.consistency.agreement",
        "reward.consistency.against", "policy.lora_dropout", "rollout.top_p", "rollout.top_k", "learner.lr_decay",
        "learner.lr_end", "learner.betas", "learner.weight_decay", "sft.lr_decay", "sft.betas",
    }  # fmt: skip


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_committed_configuration_loads(file):
    assert configuration.load(file).steps > 0 and yaml.safe_load(file.read_text())
