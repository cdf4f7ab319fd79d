"""One rollout as the page shows it: reasoning by stage with the judge's words, answer and truth,
score parts, a map.

Everything is plain data; the page writes it as text. The map is HTML of our own making with every
text escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoagent_rl.answers.forms import position, read
from geoagent_rl.answers.parse import NO_STAGE
from geoagent_rl.pages.maps import place_map, world_map
from geoagent_rl.pages.rollout_cards import details, distance_km
from geoagent_rl.rewards.services import LEVELS
from geoagent_rl.types import AnswerForm

ASIDE = ("seconds", "attempts", "stages", "levels")  # shown elsewhere, or too long for a line


def view(
    row: Mapping[str, Any], weights: Mapping[str, float], form: AnswerForm = "levels"
) -> dict[str, Any]:
    """Return what the page shows of a rollout. row: of rollouts.jsonl. weights: by part. form: of
    its answer."""
    text = str(row.get("text", ""))
    parsed = read(text, form)
    truth = row.get("truth", {})
    verdicts = details(row, "consistency").get("stages") or [{}] * len(parsed.stages)
    similar = {
        level.get("level"): level.get("similarity")
        for level in details(row, "semantic").get("levels", ())
    }
    stages = [
        {
            "level": level,
            "clues": stage.clues,
            "reasoning": stage.reasoning,
            "conclusion": stage.conclusion,
            "uncertainty": stage.uncertainty,
            "judge": verdict.get("judge"),
            "agree": verdict.get("agree"),
            "not_asked": verdict.get("not_asked"),
        }
        for level, stage, verdict in zip(LEVELS, parsed.stages, verdicts, strict=False)
        if stage != NO_STAGE
    ]
    names = [
        {
            "level": level,
            "answer": said,
            "truth": truth.get(level, ""),
            "similarity": similar.get(level),
        }
        for level, said in zip(LEVELS, parsed.levels, strict=True)
    ]
    if parsed.point:
        true = [truth.get(name) for name in ("lat", "lon")]
        known = "" if None in true else position(*true)
        own = position(*parsed.point)
        names.append({"level": "position", "answer": own, "truth": known, "similarity": None})
    facts = ("uid", "index", "step", "version", "tokens", "finish_reason", "total", "advantage")
    return {
        **{name: row.get(name) for name in facts},
        "text": text,
        "problem": parsed.problem,
        "stages": stages,
        "names": names,
        "distance_km": distance_km(row),
        "matched": details(row, "spatial").get("level"),
        "parts": [
            part(name, outcome, weights) for name, outcome in (row.get("parts") or {}).items()
        ],
        "map": map_of(row),
    }


def brief(row: Mapping[str, Any], form: AnswerForm = "levels") -> dict[str, Any]:
    """Return one answer of a group, as it stands beside the others."""
    parsed = read(str(row.get("text", "")), form)
    return {
        **{name: row.get(name) for name in ("at", "index", "total", "advantage", "tokens")},
        "levels": parsed.levels,
        "position": position(*parsed.point) if parsed.point else "",
        "distance_km": distance_km(row),
        "parts": {name: part.get("score") for name, part in (row.get("parts") or {}).items()},
    }


def part(name: str, outcome: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    """Return one part of the reward as the page shows it."""
    found = outcome.get("details") or {}
    more = {
        key: value
        for key, value in found.items()
        if key not in ASIDE and not isinstance(value, (list, dict))
    }
    about = {key: outcome.get(key) for key in ("kind", "score", "reason")}
    times = {"seconds": found.get("seconds"), "attempts": found.get("attempts")}
    return {"name": name, "weight": weights.get(name), **about, **times, "details": more}


def map_of(row: Mapping[str, Any]) -> str:
    """Return the map of truth and answer, or of the truth alone; "" where none has coordinates."""
    truth, found = row.get("truth", {}), details(row, "spatial")
    if truth.get("lat") is None or truth.get("lon") is None:
        return ""
    true = (truth["lat"], truth["lon"])
    hover = ", ".join(str(truth[level]) for level in reversed(LEVELS) if truth.get(level))
    if found.get("lat") is None:
        return place_map(true, hover, "map of the true place", true=True, note="answer not located")
    return world_map([(true, (found["lat"], found["lon"]), f"{hover} → {found.get('name', '')}")])
