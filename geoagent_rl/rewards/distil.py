"""A small judge from the recorded verdicts of a large one, and how far it can be trusted.

Runs record what their judge concluded of which reasoning (rollouts.jsonl). Distinct questions are
split by photograph: most train the small judge, one tenth chooses the threshold of a cascade
(rewards/cascade.py), one tenth measures. What is measured: agreement with the large judge,
calibration, the share of questions that would still go up, and whether the consistency rewards of
a photograph's answers keep their order. May know nothing of engines, nor of the student's size."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoagent_rl.answers.parse import parse
from geoagent_rl.rewards.cascade import alike, is_unsure
from geoagent_rl.rewards.consistency import questions
from geoagent_rl.rewards.consistency_prompt import FORM, answer, question
from geoagent_rl.rewards.judge_training import Pair, Said, answers, batches, encode, fit
from geoagent_rl.rewards.recorded import RecordedRun, open_run
from geoagent_rl.rewards.services import JudgeItem
from geoagent_rl.run.records import Row
from geoagent_rl.types import UserError

FEWEST = 200  # distinct questions; with fewer a tenth measures nothing
BINS = 10  # of the expected calibration error
TOLERANCE = 1e-9  # rewards closer than this are one
Group = tuple[str, int, str]  # run, step, photograph


@dataclass(frozen=True)
class Asked:
    """A recorded verdict: the question, and the stage as rollouts.jsonl has it."""

    item: JudgeItem
    stage: Mapping[str, Any]

    @property
    def conclusion(self) -> str:
        """Return what the large judge concluded."""
        return str(self.stage["judge"])

    def earned(self, conclusion: str) -> float:
        """Return what the stage earns where the judge concludes this. Where it says the same as the
        recorded verdict it earns the same; else the texts must be equal.
        """
        agrees = (
            self.stage["agree"]
            if alike(conclusion, self.conclusion)
            else alike(conclusion, str(self.stage["target"]))
        )
        return float(agrees * self.stage["weight"] * self.stage["length_factor"])


@dataclass
class Verdicts:
    """Recorded verdicts by part ("train", "choose", "measure") and question, each question in one
    part alone.

    answers: of "measure", the verdicts on each answer, by group."""

    parts: dict[str, dict[str, Asked]] = field(
        default_factory=lambda: {"train": {}, "choose": {}, "measure": {}}
    )
    answers: dict[Group, list[list[Asked]]] = field(default_factory=dict)
    recorded: int = 0

    def to_measure(self) -> dict[str, Asked]:
        """Return all distinct questions of the photographs of "measure", by text: those too that
        photographs of another part share.
        """
        asked = itertools.chain.from_iterable(itertools.chain(*self.answers.values()))
        return {question(one.item): one for one in asked}


def collect(paths: Iterable[Path]) -> Verdicts:
    """Return what the large judges of these runs concluded. Raises UserError where there is too
    little of it.
    """
    found, seen = Verdicts(), set[str]()
    for path in paths:
        run = open_run(path)
        for row in run.rows():
            part, asked = part_of(row["uid"]), list(verdicts(run, row))
            found.recorded += len(asked)
            if part == "measure":
                group = (str(path), row["step"], row["uid"])
                found.answers.setdefault(group, []).append(asked)
            for one in asked:
                text = question(one.item)
                if text not in seen:
                    seen.add(text)
                    found.parts[part][text] = one
    if len(seen) < FEWEST or not all(found.parts.values()):
        raise UserError(
            f"{len(seen)} distinct verdicts of a large judge are too few to distil from, or of too "
            f"few photographs; name more runs (at least {FEWEST})"
        )
    return found


def part_of(uid: str) -> str:
    """Return which part a photograph's verdicts belong to: always the same."""
    tenth = hashlib.sha256(uid.encode("utf-8", "surrogatepass")).digest()[0] % 10
    return {0: "choose", 1: "measure"}.get(tenth, "train")


def verdicts(run: RecordedRun, row: Row) -> Iterator[Asked]:
    """Yield the verdicts on one answer: of a cascade's run those of the large judge."""
    config = run.config
    stages = (row["parts"].get("consistency", {}).get("details") or {}).get("stages", ())
    if not any(stage["judge"] is not None for stage in stages):
        return
    parsed = parse(row["text"]).stages
    asked = questions(parsed, [stage["target"] for stage in stages], config.reward.consistency)
    for item, stage in zip(asked, stages, strict=True):
        large = not config.judge.cascade.enabled or stage["judge_by"] == config.judge.endpoint.model
        if item and stage["judge"] is not None and large and has_form(stage["judge"]):
            yield Asked(item, stage)


def has_form(conclusion: str) -> bool:
    """Say whether the agent's answer form has room for a conclusion."""
    return bool(re.fullmatch(FORM, answer(conclusion)))


def distil(
    found: Verdicts, model: Any, tokenizer: Any, steps: int, rate: float, agreement: float
) -> dict[str, Any]:
    """Train `model` in place on the verdicts of "train" and return the table of what it is worth.

    steps: of BATCH questions. rate: the highest learning rate. agreement: what the threshold is
    chosen for.
    """
    parts = {name: list(part.values()) for name, part in found.parts.items()}
    pairs = encode(tokenizer, [(one.item, one.conclusion) for one in parts["train"]])
    fresh = parts["measure"]
    before = answers(model, tokenizer, [one.item for one in fresh])
    fit(model, list(epochs(pairs, steps)), tokenizer.pad_token_id, rate)
    round_to_bfloat16(model)
    choose, measure = parts["choose"], found.to_measure()
    said = answers(model, tokenizer, [one.item for one in choose])
    unsure_below = threshold(list(zip(said, choose, strict=True)), agreement)
    final = dict(
        zip(measure, answers(model, tokenizer, [m.item for m in measure.values()]), strict=True)
    )
    counts: dict[str, Any] = {name: len(part) for name, part in parts.items()}
    counts |= {
        "recorded": found.recorded,
        "agreement_before": sum(map(agrees, before, fresh)) / len(fresh),
    }
    return counts | measured(found, final, unsure_below)


def epochs(pairs: Sequence[Pair], steps: int) -> Iterator[list[Pair]]:
    """Yield so many batches, over and over the pairs, in another order each time."""
    orders = (random.Random(epoch).sample(pairs, len(pairs)) for epoch in itertools.count())
    again = itertools.chain.from_iterable(map(batches, orders, itertools.count()))
    return itertools.islice(again, steps)


def round_to_bfloat16(model: Any) -> None:
    """Give the weights the values that they have once saved."""
    import torch

    model.to(torch.bfloat16).float()


def agrees(said: Said, asked: Asked) -> bool:
    """Say whether the small judge says what the large one said."""
    return said.conclusion is not None and alike(said.conclusion, asked.conclusion)


def threshold(pairs: Sequence[tuple[Said, Asked]], agreement: float) -> float:
    """Return the lowest `unsure_below` with which a cascade agrees with the large judge on that
    share: what goes up agrees.
    """
    surest = sorted(pairs, key=lambda pair: (-pair[0].logprob, agrees(*pair)))
    allowed = math.floor((1 - agreement) * len(surest) + TOLERANCE)  # wrong ones
    wrong, lowest = 0, 0.0
    for said, asked in surest:
        wrong += not agrees(said, asked)
        if wrong > allowed:
            break
        lowest = said.logprob
    return lowest


def measured(found: Verdicts, said: Mapping[str, Said], unsure_below: float) -> dict[str, Any]:
    """Return {agreement, calibration_error, unsure_below, raised_share, cascade_agreement, pairs,
    pairs_kept} on "measure". said: by question, of found.to_measure().
    """
    fresh = found.parts["measure"]  # questions that no other part has
    right = [agrees(said[text], one) for text, one in fresh.items()]
    up = {text: is_unsure(one.logprob, unsure_below) for text, one in said.items()}
    raised = [up[text] for text in fresh]
    final = {text: one.conclusion or "" for text, one in said.items() if not up[text]}
    told_apart, kept = order(found.answers.values(), final)
    return {
        "agreement": sum(right) / len(right),
        "calibration_error": calibration_error([math.exp(said[t].total) for t in fresh], right),
        "unsure_below": unsure_below,
        "raised_share": sum(raised) / len(raised),
        "cascade_agreement": sum(map(max, right, raised)) / len(right),
        "pairs": told_apart,
        "pairs_kept": kept,
    }


def calibration_error(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """Return the expected calibration error: the mean distance, over bins of equal width weighted
    by what is in them, of mean confidence and share of right answers (Guo et al., ICML 2017).
    """
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, is_right in zip(confidences, right, strict=True):
        bins.setdefault(min(BINS - 1, int(confidence * BINS)), []).append((confidence, is_right))
    return sum(
        abs(sum(c for c, _ in inside) - sum(r for _, r in inside)) for inside in bins.values()
    ) / len(right)


def order(groups: Iterable[Sequence[Sequence[Asked]]], final: Mapping[str, str]) -> tuple[int, int]:
    """Return how many pairs of a photograph's answers the large judge's R_con tells apart, and how
    many of them keep their order where the small judge's conclusions `final`, by question, replace
    the large one's.
    """
    told_apart = kept = 0
    for group in groups:
        rewards = [
            (
                sum(one.earned(one.conclusion) for one in asked),
                sum(one.earned(final.get(question(one.item), one.conclusion)) for one in asked),
            )
            for asked in group
        ]
        for (a, c), (b, d) in itertools.combinations(rewards, 2):
            if abs(a - b) > TOLERANCE:
                told_apart += 1
                kept += (a > b) == (c > d) and abs(c - d) > TOLERANCE
    return told_apart, kept
