"""One raw row -> one row of the manifest: names from an answer, a chain of thought in our form, the
photograph's file.

A photograph inside a row is written to images/ beside the manifest. What cannot be used raises Bad
with a reason that is counted; what merely loses something (a CoT text that cannot be read) is
counted in `remarks`. Knows no file formats."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoagent_rl.answers.parse import NO_STAGE, parse, read_levels, render
from geoagent_rl.data.columns import is_missing
from geoagent_rl.data.importers.kinds import ANSWER, FINER, POSITION, SCENES, Kind
from geoagent_rl.data.photos import Finder, country_name
from geoagent_rl.files import UNFINISHED
from geoagent_rl.geo.coordinates import read_pair

TEXTS = ("country", "region", "place", "source", "licence", "split", "domain", "entities",
         "aliases")  # fmt: skip
MAGIC = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"II*\0", ".tif"),
         (b"MM\0*", ".tif"))  # fmt: skip
TAGS = re.compile(r"</?answer>")
UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)


class Bad(Exception):
    """A row that cannot become a sample; `reason` is what is counted, `detail` is said of the
    first.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class Converter:
    """Makes manifest rows of one data set whose columns are known. `remarks`: what was lost of rows
    that were kept.
    """

    def __init__(
        self, kind: Kind, columns: Mapping[str, str], images: Finder, folder: Path, copy: bool
    ) -> None:
        self.kind, self.columns, self.images, self.folder, self.copy = (
            kind,
            columns,
            images,
            folder.resolve(),
            copy,
        )
        self.remarks: dict[str, list[str]] = {}
        self._written: set[str] = set()

    def row(self, raw: Mapping[str, Any], split: str, where: str) -> dict[str, Any]:
        """Raise Bad."""
        found = {target: raw.get(column) for target, column in self.columns.items()}
        if self.kind.name == "swift":
            found = self._from_messages(found, raw)
        row: dict[str, Any] = {name: text(found.get(name)) for name in TEXTS}
        row["country"] = country_name(row["country"])
        self._names(row, found, where)
        row["cot"] = self._cot(found.get("cot"), row, where)
        lat, lon = self._position(found.get(POSITION), where)
        row["lat"], row["lon"] = number(found.get("lat", lat)), number(found.get("lon", lon))
        row["locatability"] = number(found.get("locatability"))
        row["difficulty"] = number(found.get("difficulty"))
        scene = text(found.get("scene"))
        row["scene"] = SCENES.get(scene, scene)
        row["source"], row["licence"] = (
            row["source"] or self.kind.source,
            row["licence"] or self.kind.licence,
        )
        row["split"] = row["split"] or split
        row["uid"], row["image"] = self._image(found.get("image"), text(found.get("uid")), where)
        return row

    def _position(self, value: Any, where: str) -> tuple[float | None, float | None]:
        """Latitude and longitude of one column. Raises Bad for a text that is no position."""
        if is_missing(value):
            return None, None
        pair = read_pair(value)
        if pair is None:
            raise Bad("position cannot be read", f"{where}: {str(value)[:60]!r}")
        return pair

    def _from_messages(self, found: dict[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
        """ms-swift: the last message of the assistant is the chain of thought."""
        messages = raw.get("messages") or raw.get("conversations") or ()
        if not isinstance(messages, list) or not all(isinstance(item, dict) for item in messages):
            raise Bad("messages are no list of objects")
        said = [
            t.get("content", t.get("value"))
            for t in messages
            if t.get("role", t.get("from")) in ("assistant", "gpt")
        ]
        if said and not found.get("cot"):
            found["cot"] = said[-1]
        return found

    def _names(self, row: dict[str, Any], found: Mapping[str, Any], where: str) -> None:
        """Levels that have no column of their own come from the answer, the place perhaps from a
        finer division.
        """
        answer = text(found.get(ANSWER))
        if (
            not answer and not row["country"] and ";" in row["place"]
        ):  # a "location" of three levels
            answer, row["place"] = row["place"], ""
        if answer:
            levels, _ = read_levels(TAGS.sub(" ", answer))
            for name, level in zip(("country", "region", "place"), levels, strict=True):
                row[name] = row[name] or level
            if not any(levels):
                self._remark("answers name no place", where, answer[:60])
        row["place"] = row["place"] or text(found.get(FINER))

    def _cot(self, value: Any, row: dict[str, Any], where: str) -> str:
        """Return the completion in our exact form, stages that its author left out (paper B.3) left
        out; "" where there is none or it cannot be read.
        """
        said = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else text(value)
        if not said:
            return ""
        parsed = parse(said)
        if parsed.format_ok:
            return said.strip()
        names = ("country", "region", "place")
        levels = parsed.levels
        if parsed.stages and not any(
            levels
        ):  # the row's names, as far as the chain argues for them
            argued = zip(names, parsed.stages, strict=True)
            country, region, place = (row[n] if stage != NO_STAGE else "" for n, stage in argued)
            levels = (country, region, place)
        if not parsed.stages or not levels[0]:
            why = parsed.problem if not parsed.stages else "no answer that names a country"
            self._remark("CoT texts cannot be read and are left out", where, why)
            return ""
        if NO_STAGE in parsed.stages or not all(levels):
            self._remark("CoT texts leave out a stage or level", where, parsed.problem)
        for name, level in zip(names, levels, strict=True):
            row[name] = row[name] or level
        return render(parsed.stages, levels)

    def _image(self, value: Any, uid: str, where: str) -> tuple[str, str]:
        """(uid, path relative to the manifest's folder)."""
        if isinstance(value, list):
            if len(value) > 1:
                self._remark(
                    "rows have more than one photograph; the first is taken", where, str(len(value))
                )
            value = value[0] if value else None
        data, name = value, ""
        if isinstance(value, Mapping):
            data, name = value.get("bytes") or value.get("path"), text(value.get("path"))
        if isinstance(data, bytes):
            uid = uid or Path(name).stem or hashlib.sha1(data).hexdigest()[:16]
            return uid, self._write(data, uid)
        name = text(data) or uid
        if not name:
            raise Bad("no photograph and no uid")
        name = name.replace("\\", "/")
        try:
            path = (self.images.root / self.images.find(name)).resolve()
        except (ValueError, RuntimeError):  # a NUL, half a character, links in a circle
            raise Bad("image missing", name) from None
        uid = uid or Path(name).stem
        return uid.removesuffix(Path(name).suffix) if name.endswith(uid) else uid, self._near(path)

    def _write(self, data: bytes, uid: str) -> str:
        if uid in self._written:
            raise Bad("uid used twice", uid)
        self._written.add(uid)
        suffix = next((suffix for magic, suffix in MAGIC if data.startswith(magic)), "")
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            suffix = ".webp"
        if not suffix:
            raise Bad("photograph's bytes are no known image format")
        # The hash keeps two uids apart that differ only in characters no file name can have.
        stem = UNSAFE.sub("_", uid)[:80]
        stem = (
            stem
            if stem == uid
            else f"{stem}-{hashlib.sha1(uid.encode('utf-8', 'replace')).hexdigest()[:8]}"
        )
        path = self.folder / "images" / f"{stem}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            # aside: the old name may be a hard link to somebody's original
            aside = path.with_name(f"{path.name}{UNFINISHED}")
            aside.write_bytes(data)
            aside.replace(path)
        return path.relative_to(self.folder).as_posix()

    def _near(self, path: Path) -> str:
        """Return the path as the manifest has it; with `copy`, of a link or a copy in images/."""
        if not path.is_file():
            raise Bad("image missing", str(path))
        if path.is_relative_to(self.folder):
            return os.path.relpath(path, self.folder)
        if not self.copy:
            raise Bad(
                "photograph outside the manifest's folder (give --copy, or write the manifest above it)"
            )
        if not path.is_relative_to(self.images.root.resolve()):
            raise Bad("photograph outside the data set's folder (give --images)")
        inside = "_".join(path.relative_to(self.images.root.resolve()).parts)
        target = self.folder / "images" / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            try:
                os.link(path, target)
            except OSError:  # another file system
                shutil.copyfile(path, target)
        return target.relative_to(self.folder).as_posix()

    def _remark(self, what: str, where: str, detail: str) -> None:
        self.remarks.setdefault(what, []).append(f"{where}: {detail}")


def text(value: Any) -> str:
    """Return numbers and missing values as a person would write them."""
    if value is None or isinstance(value, (bytes, list, dict)) or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def number(value: Any) -> Any:
    """Return None for what is blank; anything else as it is, for the manifest's check to judge."""
    return None if is_missing(value) else value
