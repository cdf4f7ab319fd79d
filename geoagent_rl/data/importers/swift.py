"""A manifest as ms-swift JSONL, for training with that framework; `data import` reads the same
files back.
"""

from __future__ import annotations

import json
from pathlib import Path

from geoagent_rl.data import manifest
from geoagent_rl.data.images import DEFAULT_MAX_MEGAPIXELS
from geoagent_rl.files import file_at_once
from geoagent_rl.policy.prompt import FULL_SYSTEM, QUESTION
from geoagent_rl.types import UserError


def export_swift(
    source: Path, out: Path, max_image_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> int:
    """Write a manifest as ms-swift JSONL (messages, images, solution and our other columns); return
    the rows.

    Image paths are absolute, for ms-swift reads them from wherever it runs. A CoT becomes the
    assistant's message."""
    samples = manifest.read(source, max_image_megapixels)
    if out.suffix != ".jsonl":
        raise UserError(f"{out}: ms-swift data is a .jsonl file")
    out.parent.mkdir(parents=True, exist_ok=True)
    with file_at_once(out) as part, part.open("w", encoding="utf-8") as file:
        for s in samples:
            messages = [
                {"role": "system", "content": FULL_SYSTEM},
                {"role": "user", "content": f"<image>{QUESTION}"},
            ]
            messages += [{"role": "assistant", "content": s.cot}] if s.cot else []
            names = {name: getattr(s, name) for name in ("country", "region", "place")}
            rest = {
                name: getattr(s, name)
                for name in ("locatability", "scene", "source", "licence", "split")
            }
            row = {"uid": s.uid, "messages": messages, "images": [s.image], "lat": s.lat, "lon": s.lon, **names,
                   "solution": f"<answer>{'; '.join(names.values())}</answer>",
                   **{k: v for k, v in rest.items() if v not in (None, "")}}  # fmt: skip
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(samples)
