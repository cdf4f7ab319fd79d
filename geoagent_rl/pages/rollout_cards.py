"""Cards of sample rollouts for the report: picture, reasoning by stage, answer, true place, score
parts with reasons.

Works on rows of rollouts.jsonl. Everything in them is untrusted (the model wrote it) and is escaped
here."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from geoagent_rl.answers.parse import NO_STAGE, parse
from geoagent_rl.data.images import BadImage, open_image
from geoagent_rl.evaluation.locate import SAME
from geoagent_rl.rewards.services import LEVELS

RecordedRow = Mapping[str, Any]  # a line of rollouts.jsonl or metrics.jsonl
PART_COLORS = 8  # in page.css
THUMBNAIL = 480  # pixels, longest side


def choose(
    early: Sequence[RecordedRow], late: Sequence[RecordedRow]
) -> list[tuple[str, RecordedRow]]:
    """About a dozen (label, row): best, median and worst of the late steps, failures among them,
    and two early ones.

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


def card(label: str, row: RecordedRow, weights: Mapping[str, float]) -> str:
    """Return one rollout as HTML: photograph, reasoning, parts of the reward."""
    total, advantage = row.get("total"), row.get("advantage")
    step = f"step {row['step']}" if "step" in row else ""
    head = [f'<span class="tag">{escape(label)}</span>', step, f"{escape(str(row.get('uid')))}"]
    head.append("not scorable" if total is None else f"reward {total:.2f}")
    head.append("" if advantage is None else f"advantage {advantage:+.2f}")
    seen = picture(row["image"]) if "image" in row else ""
    return (
        f'<div class="card rollout"><div>{seen}{_parts(row, weights)}</div>'
        f'<div><p class="muted small">{" · ".join(h for h in head if h)}</p>{_places(row)}{_reasoning(row)}</div></div>'
    )


def picture(path: str) -> str:
    """Return the photograph as an inline JPEG thumbnail, or a box that says why not."""
    try:
        image = open_image(path)
    except BadImage as error:
        return f'<div class="noimage">no picture ({escape(error.kind)})</div>'
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    return f'<img alt="photograph" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'


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


def _places(row: RecordedRow) -> str:
    answer, truth = parse(row.get("text", "")).levels, row.get("truth", {})
    similar = {
        r.get("level"): r.get("similarity") for r in details(row, "semantic").get("levels", ())
    }
    lines = []
    for i, level in enumerate(LEVELS):
        true, said = truth.get(level, ""), answer[i]
        mark = ""
        if true and said:
            right = (similar.get(level) or 0) >= SAME
            mark = '<b class="yes">✓</b>' if right else '<b class="no">✗</b>'
        cells = f"<td>{escape(said) or '–'} {mark}</td><td>{escape(true) or '–'}</td>"
        lines.append(f"<tr><th>{level.capitalize()}</th>{cells}</tr>")
    far, matched = distance_km(row), details(row, "spatial").get("level", "")
    away = (
        "answer not located"
        if far is None
        else f"{far:,.0f} km away (matched as {escape(str(matched))})"
    )
    return (
        f'<table class="places"><tr><th></th><th>answer</th><th>true place</th></tr>{"".join(lines)}'
        f"<tr><th>Distance</th><td colspan=2>{away}</td></tr></table>"
    )


def _reasoning(row: RecordedRow) -> str:
    text = row.get("text", "")
    parsed = parse(text)
    judged = details(row, "consistency").get("stages") or [{}] * 3
    out = []
    for level, stage, verdict in zip(LEVELS, parsed.stages, judged, strict=False):
        if stage == NO_STAGE:
            continue
        chips = "".join(f'<span class="chip">{escape(clue)}</span>' for clue in stage.clues)
        judge = ""
        if verdict.get("judge") is not None:
            mark = (
                '<b class="yes">agrees</b>'
                if verdict.get("agree")
                else '<b class="no">disagrees</b>'
            )
            judge = f" · judge derives “{escape(str(verdict['judge']))}”: {mark}"
        elif verdict.get("not_asked"):
            judge = f" · judge not asked: {escape(str(verdict['not_asked']))}"
        doubt = f"uncertainty {escape(stage.uncertainty.lower())}" if stage.uncertainty else ""
        out.append(
            f'<div class="stage"><h3>{level.capitalize()}: {escape(stage.conclusion)}</h3><p>{chips}</p>'
            f'<p>{escape(stage.reasoning)}</p><p class="muted small">{doubt}{judge}</p></div>'
        )
    if parsed.problem:
        out.append(f'<p class="no small">Format: {escape(parsed.problem)}</p>')
    raw = f"<pre>{escape(text)}</pre>"
    out.append(
        f"<details><summary>completion as generated</summary>{raw}</details>"
        if parsed.stages
        else raw
    )
    return "".join(out)


def _parts(row: RecordedRow, weights: Mapping[str, float]) -> str:
    lines = []
    for i, (name, part) in enumerate((row.get("parts") or {}).items()):
        score, reason = part.get("score"), part.get("reason") or ""
        weight = f" × {weights[name]:g}" if name in weights else ""
        shown = (
            ("failed" if part["kind"] == "infra" else "–")
            if score is None
            else f"{score:.2f}{weight}"
        )
        share = min(max(score or 0.0, 0.0), 1.0)
        bar = f'<div class="bar"><i style="width:{share:.0%}"></i></div>'
        lines.append(
            f'<tr style="--c:{part_color(i)}"><td>{escape(name)}</td><td>{shown}</td><td>{bar}</td></tr>'
            + (f'<tr><td colspan=3 class="muted">{escape(str(reason))}</td></tr>' if reason else "")
        )
    return f'<table class="parts">{"".join(lines)}</table>'
