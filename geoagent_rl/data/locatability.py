"""`data locatability`: a score 0-10 per photograph of how well it can be located, imported or asked
of a VLM.

Any OpenAI-compatible endpoint can be asked (vLLM's own server, or a service). Every answer is kept
at once in a file beside the output, so a run that was stopped asks only for the rest. A request
that fails is repeated; when it keeps failing the run stops with an InfraError, and writes no score
that nobody gave. Keys stay out of files and messages."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from geoagent_rl.chat import Chat, Unanswered
from geoagent_rl.data.columns import find_column
from geoagent_rl.data.images import BadImage, open_image
from geoagent_rl.data.sample import Sample
from geoagent_rl.data.tables import header, to_float, whole_rows
from geoagent_rl.files import parse_json
from geoagent_rl.network import service_address
from geoagent_rl.types import InfraError, UserError

QUESTION = """\
How well can the place where this photograph was taken be told from the picture alone? Judge what is visible (text and \
its language, signs, plates, buildings, plants, terrain), not whether you know the place. 0: nothing tells; 1-3: \
hardly, a guess among continents; 4-5: a part of the world or some countries; 6-7: most likely one country; 8-9: a \
region or a city; 10: this very place. Answer with one JSON object and nothing else: {"score": a number from 0 to 10}"""
SCORE = re.compile(r'"score"\s*:\s*"?(-?\d+(?:\.\d+)?)')
NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?)(?:\s*/\s*10)?[\s.]*")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
COLUMNS = {
    "uid": ("uid", "id", "imageid", "key"),
    "score": ("locatability", "locatabilityscore", "score"),
}


@dataclass(frozen=True)
class Endpoint:
    """`url` is the API's base, as in http://127.0.0.1:8000/v1. `key`: "" where the endpoint needs
    none.
    """

    url: str
    model: str
    key: str = ""
    timeout_s: float = 120.0
    tries: int = 5
    concurrent: int = 8
    max_pixels: int = 300_000


def read_scores(path: Path) -> dict[str, float]:
    """Return {uid: score} of a CSV, JSONL or Parquet file with columns uid and locatability (or
    score). Raises UserError."""
    if path.suffix not in (".csv", ".tsv", ".jsonl", ".parquet"):
        raise UserError(f"{path}: scores are a .csv, .tsv, .jsonl or .parquet file")
    columns = header(path)
    names = {what: find_column(columns, aliases) for what, aliases in COLUMNS.items()}
    if absent := [what for what, name in names.items() if not name]:
        raise UserError(
            f"{path} has no column {', '.join(absent)}; its columns are {', '.join(columns)}"
        )
    said = [(str(row.get(names["uid"])), row.get(names["score"])) for _, row in whole_rows(path)]
    scores = {uid: to_float(value) for uid, value in said}
    bad = [(uid, value) for uid, value in said if not 0 <= to_float(value) <= 10]
    if bad:
        uid, value = bad[0]
        raise UserError(
            f"{path}: {len(bad)} scores are not numbers from 0 to 10 (first: {uid}: {value})"
        )
    return scores


def with_scores(samples: Sequence[Sample], scores: Mapping[str, float]) -> list[Sample]:
    """Return the samples with their scores; those without a new one keep the one they had."""
    return [replace(s, locatability=scores.get(s.uid, s.locatability)) for s in samples]


async def ask_all(
    samples: Sequence[Sample],
    endpoint: Endpoint,
    kept: Path,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Return (scores, reason by uid of those that have none): asks for every sample that `kept`
    does not answer yet.

    Raises UserError where the endpoint refuses (401, 403, 404, 400), InfraError where it keeps
    failing."""
    service_address("--endpoint", endpoint.url, bool(endpoint.key))
    known = _kept(kept, endpoint.model)
    todo = [s for s in samples if s.uid not in known]
    kept.parent.mkdir(parents=True, exist_ok=True)
    slots = asyncio.Semaphore(endpoint.concurrent)
    async with aclosing(Chat(endpoint.url, endpoint.key, endpoint.timeout_s)) as chat:
        with kept.open("a", encoding="utf-8") as file:

            async def one(sample: Sample) -> None:
                async with slots:
                    row = {
                        "uid": sample.uid,
                        "model": endpoint.model,
                        **await _ask(chat, endpoint, sample),
                    }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
                known[sample.uid] = row
                progress(len(known), len(samples))

            try:
                async with asyncio.TaskGroup() as group:
                    for sample in todo:
                        group.create_task(one(sample))
            except* (UserError, InfraError) as errors:
                raise errors.exceptions[0] from None
    ours = {s.uid: known[s.uid] for s in samples}
    scores = {uid: row["score"] for uid, row in ours.items() if row.get("score") is not None}
    return scores, {
        uid: row.get("reason", "") for uid, row in ours.items() if row.get("score") is None
    }


def read_score(said: str) -> float | None:
    """Return the score in a model's answer; None where there is none from 0 to 10."""
    found = SCORE.search(said) or NUMBER.fullmatch(said)
    score = float(found[1]) if found else -1.0
    return score if 0 <= score <= 10 else None


async def _ask(chat: Chat, endpoint: Endpoint, sample: Sample) -> dict[str, Any]:
    """{score} or {score: None, reason}. An answer without a score is asked for once more."""
    try:
        picture = await asyncio.to_thread(_data_url, sample.image, endpoint.max_pixels)
    except BadImage as error:
        return {"score": None, "reason": str(error)}
    content = [
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "text", "text": QUESTION},
    ]
    said = ""
    for temperature in (0.0, 0.7):
        body = {"model": endpoint.model, "messages": [{"role": "user", "content": content}], "max_tokens": 64,
                "temperature": temperature}  # fmt: skip
        said = await _repeated(chat, endpoint, body, sample.uid)
        if (score := read_score(said)) is not None:
            return {"score": score}
    return {"score": None, "reason": f"no score in the answer {said[:80]!r}"}


async def _repeated(chat: Chat, endpoint: Endpoint, body: dict[str, Any], uid: str) -> str:
    """Return the text of the model's answer, after repetitions."""
    problem, pause = "", 0.0
    for attempt in range(endpoint.tries):
        await asyncio.sleep(pause)
        try:
            return await chat.ask(body)
        except Unanswered as error:
            if error.refused:
                raise UserError(
                    f"{endpoint.url} refuses ({error}: {error.said}); check --endpoint, --model and the key"
                ) from None
            problem, wait_s = str(error), error.retry_after
            # the service's own wish, or backing off
            pause = FIRST_PAUSE_S * 2**attempt if wait_s is None else wait_s
            pause = min(pause, LONGEST_PAUSE_S)
    raise InfraError(
        f"{endpoint.url} failed {endpoint.tries} times for {uid} ({problem}); run again to continue"
    )


def _data_url(image: str, max_pixels: int) -> str:
    picture = open_image(image)
    scale = (max_pixels / (picture.width * picture.height)) ** 0.5
    if scale < 1:
        size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def kept_beside(out: Path, model: str) -> Path:
    """Return where answers for `out` are kept: one file per model and question."""
    digest = hashlib.sha256(f"{model}\n{QUESTION}".encode()).hexdigest()[:8]
    return out.with_name(f"{out.stem}.locatability-{digest}.jsonl")


def _kept(path: Path, model: str) -> dict[str, dict[str, Any]]:
    """Answers of an earlier run; a line that a kill tore is asked for again."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = parse_json(line)
            if row["model"] == model:
                rows[row["uid"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return rows
