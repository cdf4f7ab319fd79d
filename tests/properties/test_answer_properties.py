"""The parser stands up to any text, and reads back exactly what the renderer writes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from geoagent_rl.answers.parse import Stage, parse, render

PIECES = ["<think>", "</think>", "<answer>", "</answer>", "{", "}", '"', ";", "；", "，", "```json\n", "[",
          "ChainOfThought", '{"ChainOfThought": {"CountryIdentification": ', '{"FinalAnswer": 3}', "\\ud800", "unknown",
          "\n", "\\"]  # fmt: skip
SOUP = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(st.characters(), max_size=8)), max_size=30
).map("".join)
NAME = st.text(st.characters(categories=("L", "Nd")), min_size=1, max_size=20).map(
    lambda s: f"Z{s}z"
)
PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=40)
SENTENCE = PRINTABLE.map(lambda s: f"It says {s.strip()}.")
CLUES = st.lists(NAME, min_size=1, max_size=3).map(tuple)
STAGE = st.builds(Stage, CLUES, SENTENCE, NAME, st.sampled_from(("Low", "High")))


@settings(max_examples=500, deadline=None)
@given(st.one_of(SOUP, st.text(st.characters())))
def test_parse_takes_any_string(text):
    parsed = parse(text)
    assert len(parsed.levels) == 3 and all(isinstance(level, str) for level in parsed.levels)
    assert len(parsed.stages) in (0, 3)
    assert parsed.format_ok is (parsed.problem == "")
    "".join(
        [*parsed.levels, *(s.reasoning + s.conclusion + "".join(s.clues) for s in parsed.stages)]
    ).encode()
    if parsed.format_ok:
        assert any(parsed.levels) and parsed.stages


@settings(deadline=None)
@given(st.tuples(STAGE, STAGE, STAGE), st.tuples(NAME, NAME, NAME))
def test_what_is_rendered_is_read_back(stages, levels):
    text = render(stages, levels)
    if any(
        tag in "".join(s.reasoning for s in stages)
        for tag in ("<answer>", "</answer>", "<think>", "</think>")
    ):
        return
    parsed = parse(text)
    assert (parsed.levels, parsed.stages, parsed.problem) == (levels, stages, "")
