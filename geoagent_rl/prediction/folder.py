"""A whole folder of photographs: one row each in a CSV or JSONL file that grows as they are
located.

A row is written whole or not at all, so the same command goes on where a killed one stopped. Knows
nothing of models."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from geoagent_rl.data.images import SUFFIXES, BadImage, open_image
from geoagent_rl.files import parse_json
from geoagent_rl.types import UserError

# `problem` is a bad image's reason, or what is wrong with the answer's format. JSONL rows hold text
# and stages besides.
COLUMNS = (
    "image",
    "answer",
    "lat",
    "lon",
    "level",
    "name",
    "admin1",
    "country_code",
    "provider",
    "problem",
)


def predict_folder(
    folder: Path, out: Path, locate: Callable[[Image.Image], Mapping[str, Any]]
) -> tuple[int, int]:
    """Append a row for every photograph under `folder` that has none in `out` yet; `image` is
    relative to `folder`.

    A photograph that cannot be read is a row without a position and a line on standard error.
    Returns (rows written, of them bad images). out: see check_out. Raises UserError for a folder
    without photographs."""
    names = photographs(folder)
    done = finished(out)
    waiting = [name for name in names if name not in done]
    if done:
        say(f"{len(names) - len(waiting)} of {len(names)} photographs are in {out} already")
    bad = 0
    with out.open("a", encoding="utf-8", errors="surrogatepass", newline="") as file:
        if out.suffix == ".csv" and out.stat().st_size == 0:
            file.write(line_of(dict(zip(COLUMNS, COLUMNS, strict=True)), ".csv"))
        for i, name in enumerate(waiting, 1):
            try:
                found = locate(open_image(folder / name))
            except BadImage as error:
                found = {"problem": str(error)}
                bad += 1
            file.write(line_of({**dict.fromkeys(COLUMNS), **found, "image": name}, out.suffix))
            file.flush()
            say(
                f"[{i}/{len(waiting)}] {name}: {found.get('answer') or found['problem'] or 'no answer'}"
            )
    return len(waiting), bad


def check_out(out: Path | None) -> Path:
    """Return `out`, writable. Raises UserError where it is not given, of another kind, or cannot be
    written."""
    if out is None or out.suffix not in (".csv", ".jsonl"):
        raise UserError(
            "a folder's predictions go into a file: give --out FILE.csv or --out FILE.jsonl"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.touch()
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; give another --out") from None
    return out


def photographs(folder: Path) -> list[str]:
    """Return paths relative to `folder`, sorted; hidden files and folders left out."""
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise UserError(f"no photographs ({', '.join(sorted(SUFFIXES))}) under {folder}")
    return found


def finished(out: Path) -> set[str]:
    """Return the photographs that `out` has rows of; a last line that a kill cut short is removed
    from the file.
    """
    data = out.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with out.open("r+b") as file:
            file.truncate(len(whole))
    text = whole.decode("utf-8", "surrogatepass")  # names of files need not be UTF-8
    try:
        if out.suffix == ".jsonl":
            return {parse_json(line)["image"] for line in text.splitlines()}
        return {row["image"] for row in csv.DictReader(io.StringIO(text))}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{out} is not a file of predictions; give another --out") from None


def line_of(row: Mapping[str, Any], suffix: str) -> str:
    """Return one line. In a CSV, white space inside a text becomes one space, so that a line is a
    row."""
    if suffix == ".jsonl":
        return json.dumps(row, ensure_ascii=False) + "\n"
    buffer = io.StringIO()
    cells = ["" if row[name] is None else " ".join(str(row[name]).split()) for name in COLUMNS[1:]]
    csv.writer(buffer, lineterminator="\n").writerow([row["image"], *cells])
    return buffer.getvalue()


def say(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)
