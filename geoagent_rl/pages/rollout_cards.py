"""Cards of sample rollouts for the report: picture, reasoning by stage, answer, true place, score
parts with reasons.

Works on rows of rollouts.jsonl. Everything in them is untrusted: the model wrote it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from geoagent_rl.answers.forms import position, read
from geoagent_rl.answers.parse import NO_STAGE, Parsed, Stage
from geoagent_rl.data.images import BadImage, open_image
from geoagent_rl.evaluation.locate import SAME
from geoagent_rl.pages.page import render
from geoagent_rl.rewards.services import LEVELS
from geoagent_rl.types import AnswerForm

RecordedRow = Mapping[str, Any]  # a line of rollouts.jsonl or metrics.jsonl
PART_COLORS = 8  # in page.css
THUMBNAIL = 480  # pixels, longest side


def choose(
    early: Sequence[RecordedRow], late: Sequence[RecordedRow]
) -> list[tuple[str, RecordedRow]]:
    """Return about a dozen (label, row): best, median and worst of the late steps, failures among
    them, and two early ones.

    No photograph appears twice among the late ones, nor among the early ones.
    """
    scored = sorted((r for r in late if r.get("total") is not None), key=lambda r: -r["total"])
    failed = [
        r
        for r in late
        if r.get("total") is None or any(p["kind"] != "score" for p in r["parts"].values())
    ]
    middle = len(scored) // 2
    around = sorted(range(len(scored)), key=lambda i: abs(i - middle))
    started = sorted((r for r in early if r.get("total") is not None), key=lambda r: r["total"])
    start_order = sorted(range(len(started)), key=lambda i: abs(i - len(started) // 2))
    chosen: list[tuple[str, RecordedRow]] = []
    late_uids: set[str] = set()
    early_uids: set[str] = set()
    for label, rows, count, taken in (
        ("best", scored, 3, late_uids),
        ("failure", failed, 2, late_uids),
        ("worst", scored[::-1], 2, late_uids),
        ("median", [scored[i] for i in around], 3, late_uids),
        ("at the start", [started[i] for i in start_order], 2, early_uids),
    ):
        for row in rows:
            if count and row["uid"] not in taken:
                chosen.append((label, row))
                taken.add(row["uid"])
                count -= 1
    order = ("best", "median", "worst", "failure", "at the start")
    return sorted(chosen, key=lambda pair: order.index(pair[0]))


def card(
    label: str, row: RecordedRow, weights: Mapping[str, float], form: AnswerForm = "levels"
) -> Markup:
    """Return one rollout as HTML: photograph, reasoning, parts of the reward.

    form: what its answer looks like.
    """
    total, advantage, text = row.get("total"), row.get("advantage"), row.get("text", "")
    facts = [
        f"step {row['step']}" if "step" in row else "",
        str(row.get("uid")),
        "not scorable" if total is None else f"reward {total:.2f}",
        "" if advantage is None else f"advantage {advantage:+.2f}",
    ]
    picture, no_picture = photograph(row["image"]) if "image" in row else ("", "")
    parsed = read(text, form)
    return render(
        "card.html",
        label=label,
        uid=row.get("uid"),
        facts=[fact for fact in facts if fact],
        picture=picture,
        no_picture=no_picture,
        parts=_parts(row, weights),
        places=_places(row, parsed),
        away=_away(row),
        stages=_stages(row, parsed.stages),
        problem=parsed.problem,
        text=text,
    )


def photograph(path: str) -> tuple[str, str]:
    """Return (the photograph as a data URI of a JPEG thumbnail, ""), or ("", why there is none)."""
    try:
        image = open_image(path)
    except BadImage as error:
        return "", error.kind
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    # A copy knows no file, for whose path Pillow would ask for the working directory: that of a job
    # may be gone when its run ends, because Ray removes it with a node that dies.
    image.copy().save(data, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}", ""


def part_color(i: int) -> str:
    """Return the colour of the i-th part of the run's reward, as CSS."""
    return f"var(--part-{i % PART_COLORS})"


def weights_of(config: Mapping[str, Any]) -> dict[str, float]:
    """Return the weights of a recorded configuration's reward parts, the user's own among them."""
    reward = config.get("reward") or {}
    own = reward.get("custom") or {}
    return {**(reward.get("weights") or {}), **{name: own[name].get("weight") for name in own}}


def distance_km(row: RecordedRow) -> float | None:
    """Return the distance of the answer from the truth, None where it was not measured."""
    value = details(row, "spatial").get("distance_km")
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def details(row: RecordedRow, part: str) -> Mapping[str, Any]:
    """Return the details of one part; {} where it has none."""
    return (row.get("parts", {}).get(part) or {}).get("details") or {}


def _places(row: RecordedRow, answer: Parsed) -> list[tuple[str, str, str, bool | None]]:
    """Return (level, answer, truth, whether it is right; None where one of the two is missing), and
    the position of an answer that gives one.
    """
    truth = row.get("truth", {})
    similar = {
        r.get("level"): r.get("similarity") for r in details(row, "semantic").get("levels", ())
    }
    out: list[tuple[str, str, str, bool | None]] = []
    for level, said in zip(LEVELS, answer.levels, strict=False):
        true = truth.get(level, "")
        right = (similar.get(level) or 0) >= SAME if true and said else None
        out.append((level, said, true, right))
    if answer.point:
        known = truth.get("lat") is not None and truth.get("lon") is not None
        true = position(truth["lat"], truth["lon"]) if known else ""
        out.append(("position", position(*answer.point), true, None))
    return out


def _away(row: RecordedRow) -> str:
    far, matched = distance_km(row), details(row, "spatial").get("level", "")
    if far is None:
        return "answer not located"
    how = "by its own position" if matched == "position" else f"matched as {matched}"
    return f"{far:,.0f} km away ({how})"


def _stages(row: RecordedRow, stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Return the stages of reasoning with the judge's words."""
    judged = details(row, "consistency").get("stages") or [{}] * len(stages)
    said = ("judge", "agree", "not_asked")
    return [
        {"level": level, **asdict(stage), **{key: verdict.get(key) for key in said}}
        for level, stage, verdict in zip(LEVELS, stages, judged, strict=False)
        if stage != NO_STAGE
    ]


def _parts(row: RecordedRow, weights: Mapping[str, float]) -> list[dict[str, str]]:
    out = []
    for i, (name, part) in enumerate((row.get("parts") or {}).items()):
        score = part.get("score")
        weight = f" × {weights[name]:g}" if name in weights else ""
        missing = "failed" if part["kind"] == "infra" else "–"
        out.append(
            {
                "name": name,
                "color": part_color(i),
                "shown": missing if score is None else f"{score:.2f}{weight}",
                "share": f"{min(max(score or 0.0, 0.0), 1.0):.0%}",
                "reason": str(part.get("reason") or ""),
            }
        )
    return out
