"""Photographs in, locations out: reasoning, answer, coordinates and the level that the gazetteer
matched.

Runs a checkpoint in this process with transformers, on a GPU where torch sees one; needs no
cluster. `Locator` is the model, loaded once; prediction/folder.py and prediction/server.py ask it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from geoagent_rl.config import PolicyConfig, load
from geoagent_rl.run.directory import CONFIG, MARK
from geoagent_rl.types import UserError


def newest_policy(runs: Path) -> Path:
    """Return the policy of the newest run under `runs`. Raises UserError where there is none."""
    found = sorted(runs.glob("*/policy/config.json"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise UserError(
            f"no trained policy under {runs.resolve()}; run `geoagent-rl demo` first or give --model DIR"
        )
    return found[-1].parent


def asked_of(model: Path) -> PolicyConfig | None:
    """Return how the run that a checkpoint lies in asks its policy: prompt, answer form, size of
    pictures. None for a checkpoint of no run."""
    for folder in (model, *model.resolve().parents[:3]):
        file = folder / CONFIG
        if file.is_file() and file.read_text(encoding="utf-8", errors="replace").startswith(MARK):
            return load(file).policy
    return None


class Locator:
    """A policy and the offline gazetteer. Not safe for concurrent calls."""

    def __init__(
        self, model: Path, max_tokens: int = 1024, asked: PolicyConfig | None = None
    ) -> None:
        """model: an exported or merged checkpoint, a run directory (its finished policy, else its
        newest checkpoint), or a checkpoint with an adapter, whose base must still be there. asked:
        how it is asked; default: as its run did, else for three levels. Raises UserError for
        anything else."""
        import torch
        import transformers

        from geoagent_rl.geo.gazetteer import Gazetteer
        from geoagent_rl.policy.export import load_checkpoint
        from geoagent_rl.policy.model import load_policy
        from geoagent_rl.policy.prompt import load_processor

        transformers.logging.disable_progress_bar()
        self.model, self.max_tokens = model, max_tokens
        gpu = torch.cuda.is_available()
        dtype = "bfloat16" if gpu else "float32"
        whole = next(
            (path for path in (model, model / "policy") if (path / "config.json").is_file()), None
        )
        if whole:
            self.policy, base = load_policy(str(whole), dtype), str(whole)
        else:
            self.policy, base = load_checkpoint(model, dtype=dtype)
        self.asked = asked or asked_of(model)
        if gpu:
            self.policy.network.to("cuda")
        self.processor = load_processor(base)
        self.gazetteer = Gazetteer.open()

    def locate(self, picture: Image.Image) -> dict[str, Any]:
        """Return {text, problem, stages: [{clues, reasoning, conclusion, uncertainty}], answer,
        lat, lon, level, name, admin1, country_code, provider} of one upright RGB picture; what the
        gazetteer does not know is None."""
        from geoagent_rl.answers.forms import read, said
        from geoagent_rl.answers.parse import NO_STAGE
        from geoagent_rl.geo.match import match_to_json
        from geoagent_rl.policy.generate import generate

        c = self.asked
        how: dict[str, Any] = {"max_tokens": self.max_tokens}
        if c:
            how |= {"max_pixels": c.max_pixels, "question": c.user_prompt}
        system = c.system_prompt if c else ""
        text = generate(self.policy, self.processor, picture, system, **how)
        parsed = read(text, c.answer if c else "levels")
        stages = [
            {
                "clues": list(s.clues),
                "reasoning": s.reasoning,
                "conclusion": s.conclusion,
                "uncertainty": s.uncertainty,
            }
            for s in parsed.stages
            if s != NO_STAGE
        ]
        found = match_to_json(
            self.gazetteer.geocode(*parsed.levels) if any(parsed.levels) else None
        )
        if parsed.point:  # counts before the names
            found |= dict(zip(("lat", "lon"), parsed.point, strict=True))
            found |= {"level": "position", "provider": "answer"}
        answered = {"stages": stages, "answer": said(parsed)}
        return {"text": text, "problem": parsed.problem, **answered, **found}


def show_prediction(row: dict[str, Any]) -> str:
    """Return a prediction for a terminal."""
    lines = [f"{s['reasoning']}\n  -> {s['conclusion']}" for s in row["stages"]] or [row["text"]]
    lines.append(
        f"\nAnswer: {row['answer'] or 'none'}" + (f"  ({row['problem']})" if row["problem"] else "")
    )
    return "\n".join([*lines, f"Location: {show_location(row)}"])


def show_location(row: Mapping[str, Any]) -> str:
    """Return in words where the answer lies."""
    if not row["level"]:
        return "the answer names no place that the gazetteer knows"
    at = f"{row['lat']:.4f}, {row['lon']:.4f}"
    if row["level"] == "position":
        return f"{at} (as the answer says)"
    return f"{at} ({row['level']}: {row['name']}, {row['country_code']})"
