"""Read a completion: the three answer levels, the three reasoning stages, and whether the format
was kept.

The format is `<think>{"ChainOfThought": {...}}</think><answer>Country; Region; Place</answer>`,
nothing but whitespace around it, and a full answer in it: `format_ok` is exactly that. Reading is
more tolerant than the format, so that a right answer in a wrong wrapping still scores on its
merits. What happens to each kind of completion:

| completion                                 | levels                   | stages    | format_ok |
|--------------------------------------------|--------------------------|-----------|-----------|
| as above (a trailing newline is harmless)  | as given                 | 3         | yes       |
| no tags, a refusal, empty text             | ("", "", "")             | ()        | no        |
| JSON only, with "FinalAnswer"              | from FinalAnswer         | 3         | no        |
| two answers                                | the last complete one    | as read   | no        |
| code fence round JSON, answer or all       | as inside                | as inside | no        |
| a comma or words between or round the tags | as given                 | as read   | no        |
| full-width `；` (or `，` without any `;`)  | split there              | as read   | no        |
| cut off in <think> / after it              | ("", "", "")             | () / 3    | no        |
| cut off in <answer>                        | all "" (no half names)   | as read   | no        |
| fewer than three levels, or an empty one   | "" where missing         | as read   | no        |
| more than three levels                     | the third holds the rest | as read   | no        |
| a level that says it is unknown            | "" there                 | as read   | yes       |
| all levels unknown, or a refusal inside    | ("", "", "")             | as read   | no        |
| a stage key spelled RegionGuess or so      | as given                 | 3         | no        |
| region or place stage missing or half      | as given                 | 3, one "" | no        |
| the country's stage missing or half        | as given                 | ()        | no        |
| clues or uncertainty missing               | as given                 | 3         | no        |
| JSON that does not parse (bare quotes)     | as given                 | ()        | no        |
| a raw line break inside a JSON string      | as given                 | 3         | no        |
| quotes or asterisks round a level          | without them             | as read   | yes       |
| "Country: X; Region: Y; Place: Z"          | without the labels       | as read   | yes       |
| "1. X; 2. Y; 3. Z"                         | without the numbers      | as read   | yes       |

A stage that is left out has "" and no clues, and earns nothing. Annotators must give the country's
stage only (paper B.3), so a chain of thought may leave out others: `is_chain`.

Whether a place exists is not asked here: knows nothing of gazetteers and scores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geoagent_rl.answers.hedge import is_hedge
from geoagent_rl.files import parse_json
from geoagent_rl.geo.places import without_label, without_numbers

Levels = tuple[str, str, str]
NO_LEVELS: Levels = ("", "", "")
STAGES = ("CountryIdentification", "RegionalGuess", "PreciseLocalization")
UNCERTAINTIES = ("Low", "Medium", "High")

_STAGE_KEYS = (
    ("countryidentification", "countryguess"),
    ("regionalguess", "regionguess", "reagionguess", "regionidentification"),
    ("preciselocalization", "preciselocalisation", "preciseguess"),
)
_SEPARATORS = re.compile("[;；]")
_QUOTES = ('""', "''", "“”", "„“", "‘’", "«»", "「」")
_BLOCKS_MEET = re.compile(r"</think>\s*<answer>")
_FENCE = re.compile(r"^[ \t]*```\w*[ \t]*$", re.MULTILINE)
_REFUSAL = re.compile(
    r"\b(?:can ?not|can['’]t|unable to|impossible to|not (?:able|possible) to|(?:do not|don['’]t) have enough)\b"
    r"[^.\n]{0,60}?\b(?:determined?|identify|identified|tell|located?|say|pinpoint(?:ed)?|provided?|answer|help|assist"
    r"|know|information)\b"
    r"|\bI['’]?m sorry\b|\bas an ai\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the reasoning. `uncertainty` is Low, Medium or High where the format was
    kept.
    """

    clues: tuple[str, ...]
    reasoning: str
    conclusion: str
    uncertainty: str


NO_STAGE = Stage((), "", "", "")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a completion says. `problem` is "" exactly when `format_ok`; otherwise the first fault,
    in a few words.
    """

    levels: Levels  # country, region, place; "" where not given or said to be unknown
    stages: tuple[Stage, ...]  # the three stages in order, NO_STAGE where left out, or ()
    format_ok: bool
    problem: str
    point: tuple[float, float] | None = None  # latitude, longitude in degrees, where given as such


def parse(text: str) -> Parsed:
    """Read one completion (see the table above). Never raises on any string; every text returned
    encodes to UTF-8.
    """
    text = _clean(text)
    think, answer, problem = split_tags(text)
    payload, json_fault = _read_json(think)
    stages, stage_fault = _read_stages(payload)
    if answer is None and isinstance(payload, dict):
        answer = _final_answer(payload)
    levels, answer_fault = read_levels(answer) if answer is not None else (NO_LEVELS, "no answer")
    problem = problem or json_fault or stage_fault or answer_fault
    return Parsed(levels, stages, not problem, problem)


def render(stages: Sequence[Stage], levels: Levels) -> str:
    """Return the completion in the exact format; parse() of it gives the same stages and levels
    back. Stages and last levels that are left out are not in it.
    """
    chain = {
        name: {
            "Clues": list(stage.clues),
            "Reasoning": stage.reasoning,
            "Conclusion": stage.conclusion,
            "Uncertainty": stage.uncertainty,
        }
        for name, stage in zip(STAGES, stages, strict=True)
        if stage != NO_STAGE
    }
    think = json.dumps({"ChainOfThought": chain}, ensure_ascii=False)
    return f"<think>{think}</think><answer>{'; '.join(levels).rstrip('; ')}</answer>"


def is_chain(text: str) -> bool:
    """Say whether a text is a chain of thought to learn from: the exact format, of which stages and
    levels below the country's may be left out.
    """
    parsed = parse(text)
    if parsed.format_ok:
        return True
    return bool(parsed.stages and parsed.levels[0]) and text == render(parsed.stages, parsed.levels)


def only_blocks(text: str) -> bool:
    """Say whether it is `<think>..</think>`, white space, `<answer>..</answer>`, and not a
    character round them. (authors' code)"""
    return (
        text.startswith("<think>")
        and text.endswith("</answer>")
        and _BLOCKS_MEET.search(text) is not None
    )


def answer_parts(text: str) -> list[str]:
    """Return the first answer block, cut at every ASCII ";" and stripped; [] without one (the form
    the authors' code pays).
    """
    _, opened, rest = text.partition("<answer>")
    answer, closed, _ = rest.partition("</answer>")
    return [part.strip() for part in answer.split(";")] if opened and closed else []


def read_levels(answer: str) -> tuple[Levels, str]:
    """Return the three levels of the text inside the answer tags, and what is wrong with it ("" if
    nothing).
    """
    unfenced = _FENCE.sub("", answer)
    fault = "code fence in the answer" if "```" in answer else ""
    if "；" in unfenced:
        fault = fault or "full-width separator"
    parts = _SEPARATORS.split(unfenced)
    if len(parts) == 1 and "，" in unfenced:
        parts, fault = unfenced.split("，"), fault or "full-width separator"
    given = [_tidy(part) for part in map(without_label, without_numbers(parts))]
    if len(given) > 3:
        fault = fault or f"{len(given)} levels in the answer, not 3"
        given[2:] = [", ".join(part for part in given[2:] if part)]
    filled = sum(map(bool, given))
    levels = tuple("" if is_hedge(level) or _REFUSAL.search(level) else level for level in given)
    if not any(levels):
        return NO_LEVELS, fault or ("refusal" if filled else "empty answer")
    if filled < 3:
        fault = fault or f"{filled} levels in the answer, not 3"
    country, region, place = (*levels, *NO_LEVELS)[:3]
    return (country, region, place), fault


def split_tags(text: str) -> tuple[str, str | None, str]:
    """Return (the reasoning text, the answer text or None, what is wrong with the tags). Linear in
    the text's length.
    """
    think_end = text.find("</think>")
    think_start = text.find("<think>", 0, think_end if think_end >= 0 else len(text))
    answer_end = text.rfind("</answer>")
    answer_start = text.rfind("<answer>", 0, max(answer_end, 0))
    answer = None
    if answer_start >= 0:
        answer = text[answer_start + 8 : text.find("</answer>", answer_start)]
    if think_end >= 0:
        think = text[think_start + 7 if think_start >= 0 else 0 : think_end]
    else:
        think = "" if think_start >= 0 else text[: answer_start if answer_start >= 0 else len(text)]
    return think, answer, _tag_fault(text, answer)


def _tag_fault(text: str, answer: str | None) -> str:
    counts = [text.count(tag) for tag in ("<think>", "</think>", "<answer>", "</answer>")]
    if not text.strip():
        return "empty completion"
    if answer is None:
        if counts[2] > counts[3]:
            return "cut off in <answer>"
        if counts[0] > counts[1]:
            return "cut off in <think>"
        if counts[1]:
            return "cut off after </think>"
        return "refusal" if "{" not in text and _REFUSAL.search(text[:2000]) else "no tags"
    if counts[2] > 1 or counts[3] > 1:
        return f"{max(counts[2:])} answers"
    if counts[:2] != [1, 1]:
        return "no <think> block" if counts[:2] == [0, 0] else "unbalanced <think> tags"
    if text.lstrip().startswith("```") or text.rstrip().endswith("```"):
        return "code fence round the completion"
    if not text.lstrip().startswith("<think>") or not text.rstrip().endswith("</answer>"):
        return "text outside the tags"
    if text[text.find("</think>") + 8 : text.find("<answer>")].strip():
        return "text between </think> and <answer>"
    return ""


def _read_json(think: str) -> tuple[Any, str]:
    """Return the JSON value in the reasoning text (None if there is none that parses), and what is
    wrong with it.
    """
    body = think.strip()
    fault = ""
    if not body.startswith("{") or not body.endswith("}"):
        start, end = body.find("{"), body.rfind("}")
        if start < 0 or end < start:
            return None, "no JSON in <think>"
        fault = "code fence in <think>" if "```" in body else "text round the JSON in <think>"
        body = body[start : end + 1]
    for strict in (True, False):
        try:
            return parse_json(body, strict), fault or (
                "" if strict else "raw line break in a JSON string"
            )
        except ValueError:
            continue
    return None, "broken JSON in <think>"


def _read_stages(payload: Any) -> tuple[tuple[Stage, ...], str]:
    """Return the three stages, or () without the country's, and what is wrong with them ("" if
    nothing).
    """
    if not isinstance(payload, dict):
        return (), "no ChainOfThought in <think>"
    chain = payload.get("ChainOfThought", _loosely(payload, ("chainofthought",)) or payload)
    if not isinstance(chain, dict):
        return (), "no ChainOfThought in <think>"
    stages: list[Stage] = []
    fault = "" if "ChainOfThought" in payload else "no ChainOfThought in <think>"
    for name, spellings in zip(STAGES, _STAGE_KEYS, strict=True):
        entry = chain.get(name)
        if entry is None:
            entry, fault = _loosely(chain, spellings), fault or f"stage {name} is not named so"
        stage = _read_stage(entry) if isinstance(entry, dict) else NO_STAGE
        if not (isinstance(entry, dict) and stage.reasoning and stage.conclusion):
            lacking = f"stage {name} is incomplete" if entry else f"no stage {name}"
            if not stages:
                return (), lacking
            fault = lacking if fault == f"stage {name} is not named so" else fault or lacking
            stages.append(NO_STAGE)
            continue
        if not (
            isinstance(entry.get("Clues"), list)
            and stage.clues
            and entry.get("Uncertainty") in UNCERTAINTIES
        ):
            fault = fault or f"stage {name} is incomplete"
        if "Reasoning" not in entry or "Conclusion" not in entry:
            fault = fault or f"stage {name} has misspelled fields"
        stages.append(stage)
    return tuple(stages), fault


def _read_stage(entry: dict[str, Any]) -> Stage:
    clues = _loosely(entry, ("clues", "clue"))
    if isinstance(clues, str):
        clues = [clues]
    clues = (
        [_clean(clue).strip() for clue in clues if isinstance(clue, str)]
        if isinstance(clues, list)
        else []
    )
    reasoning, conclusion, uncertainty = (
        _loosely(entry, (key,)) for key in ("reasoning", "conclusion", "uncertainty")
    )
    texts = (
        _clean(text).strip() if isinstance(text, str) else ""
        for text in (reasoning, conclusion, uncertainty)
    )
    return Stage(tuple(clue for clue in clues if clue), *texts)


def _final_answer(payload: dict[str, Any]) -> str | None:
    answer = _loosely(payload, ("finalanswer",))
    if isinstance(answer, list) and all(isinstance(part, str) for part in answer):
        answer = "; ".join(answer)
    return _clean(answer) if isinstance(answer, str) else None


def _loosely(entry: dict[str, Any], spellings: tuple[str, ...]) -> Any:
    """Return the value whose key is one of the spellings, whatever its case, spaces and
    underscores; else None.
    """
    for key, value in entry.items():
        if key.casefold().replace("_", "").replace(" ", "") in spellings:
            return value
    return None


def _tidy(level: str) -> str:
    """Whitespace collapsed; a pair of quotes round it, asterisks and back-ticks taken off
    ('s-Hertogenbosch stays).
    """
    level = " ".join(level.split()).strip("`*, ")
    return level[1:-1].strip() if len(level) > 1 and level[0] + level[-1] in _QUOTES else level


def _clean(text: str) -> str:
    """Without NUL bytes and lone surrogates, which services and files down the line cannot
    store.
    """
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
