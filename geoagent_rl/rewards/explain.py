"""Score completions from a file and keep everything that led to each number; put two configurations
side by side.

Lines of JSON: {uid, completion, truth: {country, region, place, lat, lon}}; the rollouts.jsonl of a
run will do, its completions are called `text`. The scores are the Scorer's own. Without a judge,
consistency is reported as not judged and its weight is left out of every total. May know nothing of
how services are run or of how rows are shown."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geoagent_rl.answers.forms import read
from geoagent_rl.answers.parse import Parsed
from geoagent_rl.config.reward import RewardConfig, Weights
from geoagent_rl.files import parse_json
from geoagent_rl.rewards import consistency, consistency_prompt
from geoagent_rl.rewards.scorer import Scorer
from geoagent_rl.rewards.services import LEVELS, Judge, Services
from geoagent_rl.rewards.total import part_weights, total
from geoagent_rl.types import AnswerForm, Outcome, Prompt, Rollout, Truth, UserError

AT_ONCE = 64  # completions; their questions to the judge are in its engine together
ALWAYS = ("spatial", "semantic", "consistency", "format")  # shown even where their weight is 0
LARGEST = 10  # differences that compare() lists
NO_JUDGE = {"not_asked": "there is no judge"}
Explanation = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line of the file. `number` counts from 1."""

    number: int
    uid: str
    completion: str
    truth: Truth


def read_lines(path: Path) -> list[Line]:
    """Return every line checked. Raises UserError that names the file, the first bad line and what
    is wrong with it."""
    try:
        texts = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"no file {path}; give lines of {{uid, completion, truth}}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from None
    lines = []
    for number, text in enumerate(texts, 1):
        if text.strip():
            try:
                lines.append(_line(number, text))
            except ValueError as error:
                raise UserError(f"{path}, line {number}: {error}") from None
    if not lines:
        raise UserError(f"{path} holds no line; give lines of {{uid, completion, truth}}")
    return lines


async def explain(
    lines: Sequence[Line],
    config: RewardConfig,
    places: Any,
    judge: Judge | None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
    form: AnswerForm = "levels",
) -> list[Explanation]:
    """Return one row per line: {uid, line, form, levels, point, problem, truth, total, max_total,
    unscorable, parts, weights}.

    `advance(lines done, lines)` is called now and then. `places` is Geocoder and Semantic. A part
    is {kind, score, reason, weight} and its details; `score` is None where it is unknown. `weights`
    are those that went into the total. Raises UserError where no weight is left."""
    judged = (
        config
        if judge
        else dataclasses.replace(config, weights=_without_consistency(config.weights))
    )
    weights = part_weights(judged)
    if not any(weight > 0 for weight in weights.values()):
        raise UserError(
            "no reward part with a weight above 0 is left without a judge; give --judge or other weights"
        )
    asked = {*weights, *ALWAYS} - (set() if judge else {"consistency"})
    everything = Weights(**{f.name: float(f.name in asked) for f in dataclasses.fields(Weights)})
    everywhere = dataclasses.replace(config, weights=everything)
    scorer = Scorer(Services(places, places, judge), everywhere, form)

    async def one(line: Line) -> Explanation:
        rollout = Rollout(line.uid, 0, (), (), (), line.completion, "stop", 0)
        scored = await scorer.score(Prompt(line.uid, "", line.truth), rollout)
        parsed = read(line.completion, form)
        row = _row(line, parsed, scored.parts, judged, config, judge is not None)
        return {"form": form, **row}

    rows: list[Explanation] = []
    for start in range(0, len(lines), AT_ONCE):
        rows += await asyncio.gather(*map(one, lines[start : start + AT_ONCE]))
        advance(len(rows), len(lines))
    return rows


def compare(first: Sequence[Explanation], second: Sequence[Explanation]) -> dict[str, Any]:
    """Compare two explanations of the same lines: {n, unscorable, means, max_totals,
    rank_correlation, groups, best_changed, largest: [{uid, line, totals, shares, difference}]}.

    Differences are between shares of each configuration's maximum total. `rank_correlation` is
    Spearman's (None where one side is constant); `best_changed` the share of uids with several
    completions whose best one is another."""
    names = ("line", "uid", "a", "b")
    table = pd.DataFrame(
        [(a["line"], a["uid"], a["total"], b["total"]) for a, b in zip(first, second, strict=True)],
        columns=names,
    ).astype({"a": float, "b": float})
    known = table.dropna()
    most = [rows[0]["max_total"] for rows in (first, second)]
    shares = pd.DataFrame({"a": known["a"] / most[0], "b": known["b"] / most[1]})
    difference = (shares["b"] - shares["a"]).sort_values(key=lambda d: -d.abs(), kind="stable")
    groups = [group for _, group in known.groupby("uid") if len(group) > 1]
    changed = [not set(_best(group["a"])) & set(_best(group["b"])) for group in groups]
    return {
        "n": len(table),
        "unscorable": len(table) - len(known),
        "means": [_number(known[name].mean()) for name in "ab"],
        "max_totals": most,
        "rank_correlation": _number(_rank_correlation(known["a"], known["b"])),
        "groups": len(groups),
        "best_changed": sum(changed) / len(changed) if changed else None,
        "largest": [
            {
                "uid": table["uid"][i],
                "line": int(table["line"][i]),
                "totals": [table["a"][i], table["b"][i]],
                "shares": [shares["a"][i], shares["b"][i]],
                "difference": difference[i],
            }
            for i in difference.index[:LARGEST]
            if difference[i]
        ],
    }


def _line(number: int, text: str) -> Line:
    """Return the line, checked. Raises ValueError with what is wrong."""
    try:
        row = parse_json(text)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object {uid, completion, truth}")
    return checked(number, row)


def checked(number: int, row: Mapping[str, Any]) -> Line:
    """Return {uid, completion, truth} as a Line. Raises ValueError with what is wrong."""
    completion, truth = row.get("completion", row.get("text")), row.get("truth")
    if not isinstance(completion, str):
        raise ValueError("'completion' must be a text")
    if not isinstance(truth, dict):
        raise ValueError("'truth' must be an object {country, region, place, lat, lon}")
    names = [truth.get(level) or "" for level in LEVELS]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("truth.country, truth.region and truth.place must be texts")
    for key, most in (("lat", 90), ("lon", 180)):
        value = truth.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= most:
            raise ValueError(
                f"truth.{key} must be a number from -{most} to {most} (degrees), not {value!r}"
            )
    uid = number if row.get("uid") is None else row["uid"]
    country, region, place = map(_printable, names)
    place_truth = Truth(country, region, place, float(truth["lat"]), float(truth["lon"]))
    return Line(
        number,
        _printable(str(uid)),
        _printable(completion),
        place_truth,
    )


def _printable(text: str) -> str:
    """Without lone surrogates, which JSON can hold and no output can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _row(
    line: Line,
    parsed: Parsed,
    parts: Mapping[str, Outcome],
    judged: RewardConfig,
    config: RewardConfig,
    has_judge: bool,
) -> Explanation:
    targets = consistency.targets(parsed.stages, line.truth.levels, config.consistency)
    questions = consistency.questions(parsed.stages, targets, config.consistency)
    score, weights = total(parts, judged), part_weights(judged)
    if not has_judge:
        parts = {**parts, "consistency": _not_judged(parsed, targets, any(questions), config)}
    names = [name for name in (*vars(config.weights), *config.custom) if name in parts]
    shown = {name: _part(parts[name], weights.get(name, 0.0)) for name in names}
    _add(shown, questions, has_judge)
    return {
        "uid": line.uid,
        "line": line.number,
        "completion": line.completion,
        "levels": list(parsed.levels),
        "point": parsed.point,
        "problem": parsed.problem,
        "truth": dataclasses.asdict(line.truth),
        "total": score,
        "max_total": math.fsum(weight for weight in weights.values() if weight > 0),
        "unscorable": score is None,
        "parts": shown,
        "weights": weights,
    }


def _not_judged(
    parsed: Parsed, targets: Sequence[str], open_question: bool, config: RewardConfig
) -> Outcome:
    """Return what can be said of consistency without a judge: 0 where nothing could earn, else
    unknown.
    """
    nobody = (None,) * len(parsed.stages)
    found = consistency.outcome(parsed, targets, nobody, nobody, config.consistency)
    return (
        Outcome("infra", None, "not judged: no judge was asked", found.details)
        if open_question
        else found
    )


def _part(outcome: Outcome, weight: float) -> Explanation:
    head = {
        "kind": outcome.kind,
        "score": outcome.score,
        "reason": outcome.reason,
        "weight": weight,
    }
    return head | dict(outcome.details)


def _add(parts: dict[str, Explanation], questions: Sequence[Any], has_judge: bool) -> None:
    """Add what the outcomes do not hold: similarities by level, whether a judge was there, and what
    it was asked."""
    if "semantic" in parts:
        rows = parts["semantic"].get("levels", ())
        parts["semantic"]["similarities"] = {row["level"]: row.get("similarity") for row in rows}
    part = parts["consistency"]
    part["judged"] = has_judge
    if not has_judge and part["score"] is None:
        part["kind"] = "not judged"
    part["stages"] = [
        row
        | {"judge_input": item and consistency_prompt.question(item)}
        | ({} if has_judge or not item else NO_JUDGE)
        for row, item in zip(part.get("stages") or (), questions, strict=False)
    ]


def _without_consistency(weights: Weights) -> Weights:
    return dataclasses.replace(weights, consistency=0.0)


def _best(totals: pd.Series) -> list[Any]:
    return list(totals.index[totals == totals.max()])


def _rank_correlation(a: pd.Series, b: pd.Series) -> float:
    return a.rank().corr(b.rank()) if a.nunique() > 1 and b.nunique() > 1 else math.nan


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
