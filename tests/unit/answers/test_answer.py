"""Each kind of completion has one outcome: what is read from it, and whether it kept the format."""

import json
import time

import pytest

from geoagent_rl.answers.parse import (
    NO_LEVELS,
    NO_STAGE,
    Stage,
    is_chain,
    parse,
    read_levels,
    render,
)

STAGES = (
    Stage(
        ("yellow plates", "right-hand traffic"),
        "The plates are yellow, so it is Luxembourg.",
        "Luxembourg",
        "Low",
    ),
    Stage(
        ("vineyards",), "Vineyards line the river, as in Grevenmacher.", "Grevenmacher", "Medium"
    ),
    Stage(('a sign says "Remich"',), 'The sign "Remich" names the town.', "Remich", "High"),
)
LEVELS = ("Luxembourg", "Grevenmacher", "Remich")
GOOD = render(STAGES, LEVELS)
THINK = GOOD[: GOOD.index("<answer>")]
JSON = THINK.removeprefix("<think>").removesuffix("</think>")
ANSWER = GOOD[GOOD.index("<answer>") :]
JSON_ONLY = JSON[:-1] + ', "FinalAnswer": "Luxembourg; Grevenmacher; Remich"}'


INDENTED = f"<think>\n{json.dumps(json.loads(JSON), indent=2)}\n</think>{ANSWER}"


@pytest.mark.parametrize("text", [GOOD, GOOD + "\n", "\n " + GOOD, THINK + "\n" + ANSWER, INDENTED])
def test_the_format_with_whitespace_only_around_it_is_kept(text):
    parsed = parse(text)
    assert (parsed.levels, parsed.stages, parsed.format_ok, parsed.problem) == (
        LEVELS,
        STAGES,
        True,
        "",
    )


@pytest.mark.parametrize(
    ("text", "levels", "stages", "problem"),
    [
        ("", NO_LEVELS, 0, "empty completion"),
        ("Luxembourg; Grevenmacher; Remich", NO_LEVELS, 0, "no tags"),
        ("I'm sorry, I cannot determine where this was taken.", NO_LEVELS, 0, "refusal"),
        (THINK + "<answer>I cannot determine the location</answer>", NO_LEVELS, 3, "refusal"),
        (THINK + "<answer>Unknown; unknown; N/A</answer>", NO_LEVELS, 3, "refusal"),
        (THINK + "<answer> </answer>", NO_LEVELS, 3, "empty answer"),
        (JSON_ONLY, LEVELS, 3, "no tags"),
        (f"```json\n{JSON_ONLY}\n```", LEVELS, 3, "no tags"),
        (THINK + "<answer>France; Lorraine; Metz</answer>" + ANSWER, LEVELS, 3, "2 answers"),
        (f"```\n{GOOD}\n```", LEVELS, 3, "code fence round the completion"),
        (f"<think>```json\n{JSON}\n```</think>{ANSWER}", LEVELS, 3, "code fence in <think>"),
        (f"{THINK}<answer>```\nLuxembourg; Grevenmacher; Remich\n```</answer>", LEVELS, 3, "code fence in the answer"),
        (THINK + " , " + ANSWER, LEVELS, 3, "text between </think> and <answer>"),
        ("Sure! " + GOOD, LEVELS, 3, "text outside the tags"),
        (GOOD + " Done.", LEVELS, 3, "text outside the tags"),
        (THINK + "<answer>Luxembourg；Grevenmacher；Remich</answer>", LEVELS, 3, "full-width separator"),
        (THINK + "<answer>Luxembourg，Grevenmacher，Remich</answer>", LEVELS, 3, "full-width separator"),
        (GOOD[:80], NO_LEVELS, 0, "cut off in <think>"),
        (THINK, NO_LEVELS, 3, "cut off after </think>"),
        (GOOD[:-12], NO_LEVELS, 3, "cut off in <answer>"),
        (ANSWER, LEVELS, 0, "no <think> block"),
        (THINK + "<answer>Zambia; Lusaka Province;</answer>", ("Zambia", "Lusaka Province", ""), 3,
         "2 levels in the answer, not 3"),
        (THINK + "<answer>Zambia;; Lusaka</answer>", ("Zambia", "", "Lusaka"), 3, "2 levels in the answer, not 3"),
        (THINK + "<answer>Zambia; Lusaka; Lusaka; Cairo Road</answer>", ("Zambia", "Lusaka", "Lusaka, Cairo Road"), 3,
         "4 levels in the answer, not 3"),
        (THINK + "<answer>United States; MN, Saint Louis County; Duluth</answer>",
         ("United States", "MN, Saint Louis County", "Duluth"), 3, ""),
        (THINK + "<answer>Zambia; unknown; unknown</answer>", ("Zambia", "", ""), 3, ""),
        (THINK + '<answer>"Luxembourg"; **Grevenmacher**; “Remich”</answer>', LEVELS, 3, ""),
        (THINK + "<answer>Netherlands; Noord-Brabant; 's-Hertogenbosch</answer>",
         ("Netherlands", "Noord-Brabant", "'s-Hertogenbosch"), 3, ""),
        (GOOD.replace("RegionalGuess", "ReagionGuess"), LEVELS, 3, "stage RegionalGuess is not named so"),
        (GOOD.replace("RegionalGuess", "RegionGuess"), LEVELS, 3, "stage RegionalGuess is not named so"),
        (GOOD.replace("RegionalGuess", "Region"), LEVELS, 3, "no stage RegionalGuess"),
        (GOOD.replace("CountryIdentification", "Land"), LEVELS, 0, "no stage CountryIdentification"),
        (GOOD.replace('"Reasoning"', '"reasoning"', 1), LEVELS, 3, "stage CountryIdentification has misspelled fields"),
        (GOOD.replace('"Conclusion": "Remich"', '"Conclusion": ""'), LEVELS, 3,
         "stage PreciseLocalization is incomplete"),
        (GOOD.replace('"Low"', '"perhaps"'), LEVELS, 3, "stage CountryIdentification is incomplete"),
        (GOOD.replace('["vineyards"]', "[]"), LEVELS, 3, "stage RegionalGuess is incomplete"),
        (GOOD.replace('\\"Remich\\"', '"Remich"'), LEVELS, 0, "broken JSON in <think>"),
        (GOOD.replace("yellow, so", "yellow,\nso"), LEVELS, 3, "raw line break in a JSON string"),
        (GOOD.replace(JSON, "The plates are yellow."), LEVELS, 0, "no JSON in <think>"),
        (GOOD.replace(JSON, "[" * 100_000 + "{}"), LEVELS, 0, "text round the JSON in <think>"),
    ],
)  # fmt: skip
def test_outcomes(text, levels, stages, problem):
    parsed = parse(text)
    assert (parsed.levels, len(parsed.stages), parsed.problem) == (levels, stages, problem)
    assert parsed.format_ok is (problem == "")


@pytest.mark.parametrize(
    ("stages", "levels", "answer"),
    [
        ((STAGES[0], NO_STAGE, STAGES[2]), LEVELS, "Luxembourg; Grevenmacher; Remich"),
        ((STAGES[0], NO_STAGE, STAGES[2]), ("Luxembourg", "", "Remich"), "Luxembourg; ; Remich"),
        ((STAGES[0], STAGES[1], NO_STAGE), ("Luxembourg", "Grevenmacher", ""), "Luxembourg; Grevenmacher"),
        ((STAGES[0], NO_STAGE, NO_STAGE), ("Luxembourg", "", ""), "Luxembourg"),
    ],
)  # fmt: skip
def test_a_chain_may_leave_out_stages_and_levels_below_the_countrys(stages, levels, answer):
    text = render(stages, levels)
    parsed = parse(text)
    assert (parsed.stages, parsed.levels) == (stages, levels) and f"<answer>{answer}<" in text
    assert is_chain(text) and not parsed.format_ok and parsed.problem


def test_only_the_exact_form_is_a_chain():
    assert is_chain(GOOD) and is_chain(THINK + ANSWER.replace("Remich", "unknown"))
    assert not any(map(is_chain, ("", ANSWER, THINK, "Sure! " + GOOD, JSON_ONLY)))
    assert not is_chain(render((NO_STAGE, *STAGES[1:]), LEVELS))
    assert not is_chain("Sure! " + render((*STAGES[:2], NO_STAGE), LEVELS))


def test_lone_surrogates_and_nul_bytes_do_not_get_through():
    text = GOOD.replace("yellow plates", "yellow \\ud800 plates").replace(
        "Remich</answer>", "Re\0mich\ud800</answer>"
    )
    parsed = parse(text)
    assert parsed.levels[2] == "Remich?"
    assert parsed.stages[0].clues[0].encode() and parsed.format_ok


def test_deep_nesting_is_broken_json_not_a_crash():
    assert (
        parse(GOOD.replace(JSON, '{"a":' * 100_000 + "1" + "}" * 100_000)).problem
        == "broken JSON in <think>"
    )


def test_levels_can_be_read_alone():
    assert read_levels("Germany; Bayern; München") == (("Germany", "Bayern", "München"), "")


def test_parsing_takes_less_than_a_fifth_of_a_millisecond():
    start = time.process_time()
    for _ in range(1000):
        parse(GOOD)
    assert time.process_time() - start < 0.2


def test_a_flood_of_open_tags_is_read_in_linear_time():
    start = time.process_time()
    parse("<answer>" * 50_000 + "<think>" * 50_000)
    assert time.process_time() - start < 1.0
