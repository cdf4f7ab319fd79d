"""Run directories as the page sees them: which there are, their curves, their rollouts, their
photographs.

Knows files only: nothing of Ray, HTTP or HTML. Whatever a model wrote is passed on as plain text.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from cluster.monitor.state import alerts, status_of, step_seconds
from cluster.monitor.tail import Rollouts, Steps
from geoagent_rl.answers.forms import FORMS, read, said
from geoagent_rl.config.reward import Weights
from geoagent_rl.data.images import DEFAULT_MAX_MEGAPIXELS, BadImage, open_image
from geoagent_rl.files import write_text
from geoagent_rl.metrics.table import parts_measured
from geoagent_rl.pages.rollout_cards import weights_of
from geoagent_rl.run.directory import settings_in
from geoagent_rl.run.log import last_lines
from geoagent_rl.run.records import last_row, read_rows
from geoagent_rl.types import AnswerForm, UserError

PAGE = 24
DEPTH = 3  # folders below the one given in which runs are looked for
NOTE = "note.txt"  # what somebody wrote about a run in the monitor
LONGEST_NOTE = 2000  # characters
LOGGED = 500  # lines of the log that are shown
SKIPPED = ("checkpoints", "policy", "policy-sft", "data", "cache", "tensorboard", "wandb")
BUILT_IN = tuple(field.name for field in dataclasses.fields(Weights))  # parts of the reward
# Of a run's configuration and of its last step: columns of the table of runs.
TABLED = ("policy.model", "learner.loss", "learner.lr", "rollout.group_size", "run.seed")
SUMMED = ("reward_total_mean", "validation_reward", "kl", "zero_variance_share", "step_seconds")
SORTS = ("newest", "oldest", "best", "worst")


class Run:
    """One run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps = Steps(path / "metrics.jsonl")
        self.rollouts = Rollouts(path / "rollouts.jsonl")

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration as the run has it, also after a resume with others; {} while it
        cannot be read."""
        path = self.path / "config.yaml"
        try:
            return _config(path, path.stat().st_mtime_ns)
        except OSError:
            return {}

    def setting(self, key: str) -> Any:
        """Return the value of a dotted key as the run had it; None where it is not known."""
        node: Any = self.config
        for name in key.split("."):
            node = node.get(name) if isinstance(node, Mapping) else None
        return node

    @property
    def weights(self) -> dict[str, float]:
        """Return the weights of the parts of its reward, the user's own among them."""
        return weights_of(self.config)

    @property
    def form(self) -> AnswerForm:
        """Return the form of its answers."""
        found = self.setting("policy.answer")
        form: AnswerForm = found if found in FORMS else "levels"
        return form

    @property
    def written(self) -> float:
        """Return when the run last wrote a step or, before any, its configuration (seconds since
        1970)."""
        times = [
            p.stat().st_mtime for p in (self.steps.path, self.path / "config.yaml") if p.exists()
        ]
        return times[0] if times else 0.0

    def series(self, names: list[str], smooth: int, known: str) -> dict[str, Any]:
        """Return {state, seconds, curves: {name: [steps, smooth values, values]}}, as drawn;
        {state} alone while that is `known` already. seconds: [steps, how long the run had taken].
        """
        self.steps.refresh()
        inode = self.steps.path.stat().st_ino if self.steps.path.exists() else 0
        state = f"{inode}-{self.steps.generation}-{self.steps.rows}-{smooth}"
        if state == known:
            return {"state": state}
        curves = {name: self.steps.curve(name, smooth) for name in names}
        return {"state": state, "seconds": self.steps.elapsed(), "curves": curves}

    def summary(self) -> dict[str, Any]:
        """Return what the list and the table of runs show."""
        row = last_row(self.steps.path)
        last = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        step, whole = int(last.get("step", 0)), self.setting("steps")
        status = status_of(self.path, step)
        if status == "running":
            self.steps.refresh()
        each = step_seconds(self.steps) if status == "running" else math.nan
        left = each * max(int(whole) - step, 0) if isinstance(whole, int) else math.nan
        settings = {key: self.setting(key) for key in TABLED}
        return {
            "status": status,
            "step": step,
            "steps": whole,
            "eta_seconds": left,
            "written": self.written,
            "path": str(self.path),
            "note": self.note,
            "settings": settings,
            "last": {key: last[key] for key in SUMMED if key in last},
        }

    def checks(self) -> list[dict[str, str]]:
        """Return what is looked at (state.alerts)."""
        self.steps.refresh()
        status = status_of(self.path, self.steps.rows)
        return alerts(self.steps, status, self.written, self.setting)

    @property
    def note(self) -> str:
        """Return what somebody wrote about the run; "" where nobody did."""
        try:
            return (self.path / NOTE).read_text(encoding="utf-8", errors="replace")[:LONGEST_NOTE]
        except OSError:
            return ""

    def write_note(self, text: str) -> None:
        """Keep a note. OSError where the directory is not ours to write."""
        write_text(self.path / NOTE, text[:LONGEST_NOTE])

    def log(self) -> dict[str, Any]:
        """Return the last lines that the run printed, and the last prompts that it dropped."""
        dropped = list(deque(read_rows(self.path / "dropped.jsonl"), LOGGED))
        return {"lines": last_lines(self.path, LOGGED), "dropped": dropped}

    def group(self, at: int) -> list[dict[str, Any]]:
        """Return the answers to one prompt of which the row at `at` is one, in their order; the
        row alone before its neighbours are indexed. Raises IndexError where no row begins.
        """
        self.rollouts.row(at)
        offsets = self.rollouts.group(at) or [at]
        return [{"at": place} | self.rollouts.row(place) for place in offsets]

    def page(
        self, sort: str, step: int | None, text: str, failed: bool, page: int
    ) -> dict[str, Any]:
        """Return one page of rollouts, short. text: part of a uid. failed: only those with a part
        not judged on its merits.

        Before all are indexed it is a page of those that are; only the newest are there at once.
        """
        share = self.rollouts.refresh()
        r, first = self.rollouts, page * PAGE
        found = [
            i for i in range(len(r.uids))
            if (step is None or r.steps[i] == step) and (not failed or r.failed[i]) and text in r.uids[i]
        ]  # fmt: skip
        if sort in ("best", "worst"):
            found = [i for i in found if not math.isnan(r.totals[i])]
            found.sort(key=r.totals.__getitem__, reverse=sort == "best")
        elif sort == "newest":
            found.reverse()
        places = [r.offsets[i] for i in found[first : first + PAGE]]
        if share < 1 and sort == "newest" and step is None and not failed and not text:
            places = r.last(first + PAGE)[first:]
        rows = [row for at in places if (row := self.short(at))]
        return {
            "indexed": share,
            "found": len(found),
            "all": len(r.uids),
            "damaged": r.damaged,
            "page": page,
            "size": PAGE,
            "rows": rows,
        }

    def short(self, at: int) -> dict[str, Any] | None:
        """Return a rollout as a row of the list; None where the line is damaged."""
        try:
            row = self.rollouts.row(at)
        except IndexError:
            return None
        text = row.get("text", "")
        answer = text.rpartition("<answer>")[2].partition("</answer>")[0]
        answer = answer or said(read(text, self.form))
        keys = ("uid", "index", "step", "total", "version")
        return {"at": at, "answer": answer[:120], **{key: row.get(key) for key in keys}}

    def image(self, at: int, longest: int) -> bytes:
        """Return the photograph of a rollout as JPEG, no side longer than `longest` pixels. Raises
        BadImage.

        Only files inside the folder of the run's manifest (or rendered by the run) are opened.
        """
        path = Path(str(self.rollouts.row(at).get("image", "")))
        was = self.setting("run.dir")
        if was and path.is_relative_to(
            was
        ):  # rendered by the run, whose directory may have been moved since
            path = self.path / path.relative_to(was)
        path = path.resolve()
        if not any(path.is_relative_to(root) for root in self.image_roots):
            raise BadImage(
                "the photograph lies outside the folder of the run's manifest", "outside"
            )
        image = open_image(
            path, self.setting("data.max_image_megapixels") or DEFAULT_MAX_MEGAPIXELS
        )
        image.thumbnail((longest, longest), Image.Resampling.BILINEAR)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=88)
        return out.getvalue()

    @cached_property
    def image_roots(self) -> list[Path]:
        """Return where photographs may lie. A relative manifest was named from the folder where the
        run was started: here, or one above the run's. Rendered scenes are the run's own, or those
        that the rows of an ablation share (cluster/jobs/ablate_rows.py)."""
        roots, manifest = (
            [self.path / "data", self.path.parent / "data"],
            self.setting("data.manifest"),
        )
        for base in (Path.cwd(), *self.path.parents):
            named = base / str(manifest or "scenes")
            if manifest and named.exists():
                roots.append(named if named.is_dir() else named.parent)
                break
        return [root.resolve() for root in roots]


@lru_cache(maxsize=1024)
def _config(path: Path, _written: int) -> Mapping[str, Any]:
    return settings_in(path.read_bytes())


class Runs:
    """The runs in a folder (or the one run that the folder is). Looked up anew at most every
    second.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(
                f"no folder {folder}; give a run directory or the folder that holds your runs"
            )
        self.folder = folder.resolve()
        self._runs: dict[str, Run] = {}
        self._looked = -math.inf

    def all(self) -> dict[str, Run]:
        """Return {name: run}, the one written last first. A name is the path below the folder."""
        if time.monotonic() - self._looked > 1.0:
            found = {name: self._runs.get(name) or Run(path) for name, path in self._search()}
            self._runs = dict(sorted(found.items(), key=lambda item: -item[1].written))
            self._looked = time.monotonic()
        return self._runs

    def get(self, name: str) -> Run:
        """Raise KeyError for a run that is not there."""
        return self.all()[name]

    def parts(self) -> list[str]:
        """Return the reward parts that the runs score: those built in, then the users' own."""
        rows = (last_row(run.steps.path) for run in self.all().values())
        own = (part for row in rows for part in parts_measured(row))
        return list(dict.fromkeys([*BUILT_IN, *own]))

    def listed(self) -> list[dict[str, Any]]:
        """Return a summary of every run, newest first."""
        return [{"name": name} | run.summary() for name, run in self.all().items()]

    def _search(self) -> Iterator[tuple[str, Path]]:
        for folder, below, files in os.walk(self.folder):
            path = Path(folder)
            depth = len(path.relative_to(self.folder).parts)
            is_run = "metrics.jsonl" in files or ("config.yaml" in files and "checkpoints" in below)
            below[:] = (
                []
                if depth == DEPTH
                else [b for b in below if not b.startswith(".") and b not in SKIPPED]
            )
            if is_run:
                yield (path.relative_to(self.folder).as_posix() if depth else path.name), path
