"""One photograph in, its location out: reasoning, answer, coordinates and the level that the gazetteer matched.

Runs the checkpoint in this process with transformers; needs no cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geoagent_rl.types import UserError


def newest_policy(runs: Path) -> Path:
    """The policy of the newest run under `runs`. Raises UserError where there is none."""
    found = sorted(runs.glob("*/policy/config.json"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise UserError(f"no trained policy under {runs.resolve()}; run `geoagent-rl demo` first or give --model DIR")
    return found[-1].parent


def predict_image(image: Path, model_dir: Path, max_tokens: int = 1024) -> dict[str, Any]:
    """{image, model, text, problem, stages, answer, lat, lon, level, name, admin1, country_code, provider}.

    Raises BadImage (a UserError) for a missing or broken photograph, UserError for a directory without a checkpoint.
    """
    import transformers

    from geoagent_rl.data.images import open_image
    from geoagent_rl.geo.gazetteer import Gazetteer, match_to_json
    from geoagent_rl.policy.answer import parse
    from geoagent_rl.policy.generate import generate
    from geoagent_rl.policy.model import load_policy, load_processor

    transformers.logging.disable_progress_bar()
    picture = open_image(image)
    if not (model_dir / "config.json").exists():
        raise UserError(f"{model_dir} holds no checkpoint (no config.json)")
    text = generate(load_policy(model_dir), load_processor(model_dir), picture, max_tokens=max_tokens)
    parsed = parse(text)
    stages = [{"reasoning": s.reasoning, "conclusion": s.conclusion} for s in parsed.stages]
    found = match_to_json(Gazetteer.open().geocode(*parsed.levels) if any(parsed.levels) else None)
    answer = "; ".join(parsed.levels) if any(parsed.levels) else ""
    return {
        "image": str(image),
        "model": str(model_dir),
        "text": text,
        "problem": parsed.problem,
        "stages": stages,
        "answer": answer,
        **found,
    }


def show_prediction(row: dict[str, Any]) -> str:
    lines = [f"{s['reasoning']}\n  -> {s['conclusion']}" for s in row["stages"]] or [row["text"]]
    lines.append(f"\nAnswer: {row['answer'] or 'none'}" + (f"  ({row['problem']})" if row["problem"] else ""))
    if row["level"]:
        lines.append(
            f"Location: {row['lat']:.4f}, {row['lon']:.4f} ({row['level']}: {row['name']}, {row['country_code']})"
        )
    else:
        lines.append("Location: the answer names no place that the gazetteer knows")
    return "\n".join(lines)
