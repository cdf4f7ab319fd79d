"""Two runs side by side: settings that differ, the ends of their curves, paired differences of
their evaluations, and the photographs on which they differ; as figures, text and a page.

Evaluations are compared where both runs have kept predictions of the same name (RUN/predictions/),
on the photographs that both have, with A's GeoScore scale. The first run is A, the second B."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from geoagent_rl.config import Config, flat, to_yaml
from geoagent_rl.evaluation.predictions import Predictions, from_rows
from geoagent_rl.evaluation.summary import MEASURES, compare
from geoagent_rl.evaluation.text import show_comparison
from geoagent_rl.metrics.table import is_metric
from geoagent_rl.pages.charts import curves
from geoagent_rl.pages.page import render, whole, write_page
from geoagent_rl.pages.recorded import ENDS, change_of, points_of
from geoagent_rl.run.directory import CONFIG, RunDir
from geoagent_rl.run.start import HARMLESS, settings_of
from geoagent_rl.types import UserError

NAMES = ("A", "B")
EVALUATED = "predictions.jsonl"  # of `eval run`
SAMPLES = 20  # photographs that are listed of an evaluation
LOST_KM = 20_038.0  # half of the Earth's circumference
COLORS = ("var(--total)", "var(--part-0)")
SHOWN = (  # of the metrics, in a terminal, beside the mean of every part of the reward
    *("reward_total_mean", "validation_reward", "zero_variance_share", "unscorable_share"),
    *("data_failure_share", "truncated_share", "completion_tokens_mean", "kl", "entropy"),
    *("grad_norm", "step_seconds", "tokens_per_s", "efficiency"),
)


def compare_runs(paths: tuple[Path, Path]) -> dict[str, Any]:
    """Return {runs, steps, settings, curves, evaluations, samples, not_compared} of two runs.

    settings: {key: [A, B]} that differ. curves: {metric: [[first, last] of A, of B]}, means of
    the first and last 5 steps, None where a run has none. evaluations: {name: summary.compare}.
    not_compared: {name: why}. Raises UserError for a directory without a run.
    """
    for path in paths:
        if not (path / CONFIG).is_file():
            raise UserError(f"{path} holds no {CONFIG}; give two run directories")
    runs = [RunDir(path) for path in paths]
    rows = [run.rows("metrics.jsonl") for run in runs]
    evaluations, samples, not_compared = _evaluations(paths)
    return {
        "runs": [str(path) for path in paths],
        "steps": [len(found) for found in rows],
        "settings": _settings(paths),
        "curves": _curves(rows),
        "evaluations": evaluations,
        "samples": samples,
        "not_compared": not_compared,
    }


def _settings(paths: tuple[Path, Path]) -> dict[str, list[Any]]:
    """Return {key: [A, B]}; a key that is newer than a run stood at its default."""
    default = flat(yaml.safe_load(to_yaml(Config())))
    a, b = ({**default, **settings_of(path / CONFIG)} for path in paths)
    keys = sorted({*a, *b} - {*HARMLESS})
    return {key: [a.get(key), b.get(key)] for key in keys if a.get(key) != b.get(key)}


def _curves(rows: list[list[dict[str, Any]]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for found in rows for row in found for name in row)
    changes = {
        name: [change_of(points_of(found, name)) for found in rows]
        for name in names
        if is_metric(name) and name not in ("step", "prompts", "version")
    }
    return {name: both for name, both in changes.items() if any(both)}


def _evaluations(
    paths: tuple[Path, Path],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Return ({name: comparison}, {name: samples}, {name: why there is none}) of both runs."""
    found: dict[str, Any] = {}
    samples: dict[str, Any] = {}
    not_compared: dict[str, str] = {}
    default = Config().eval.geoscore_scale_km
    scale_km = float(settings_of(paths[0] / CONFIG).get("eval.geoscore_scale_km", default))
    a, b = ({file.relative_to(path): file for file in _files(path)} for path in paths)
    for name in sorted({*a, *b}):
        if name not in a or name not in b:
            not_compared[name.stem] = f"only {NAMES[name in b]} has kept predictions"
            continue
        rows = [RunDir(file.parent).rows(file.name) for file in (a[name], b[name])]
        systems = [from_rows(called, own) for called, own in zip(NAMES, rows, strict=True)]
        try:
            found[name.stem] = compare(systems, scale_km)
        except UserError as error:
            not_compared[name.stem] = str(error)
        else:
            samples[name.stem] = _samples(systems, rows)
    return found, samples, not_compared


def _samples(
    systems: Sequence[Predictions], rows: Sequence[Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Return {uid, truth, answers: [A, B], km: [A, B]} of the SAMPLES largest differences of the
    distance, half of them where A is better; an answer that was not located is LOST_KM off."""
    km = [
        {uid: float(d) for uid, d in zip(system.uids, system.km, strict=True)} for system in systems
    ]
    said = [{str(row["uid"]): row for row in own} for own in rows]
    off = {
        uid: [min(one[uid], LOST_KM) if math.isfinite(one[uid]) else LOST_KM for one in km]
        for uid in km[0].keys() & km[1].keys()
    }
    order = sorted(off, key=lambda uid: (off[uid][0] - off[uid][1], uid))
    worse = [uid for uid in order[: SAMPLES // 2] if off[uid][0] < off[uid][1]]
    better = [uid for uid in order[::-1][: SAMPLES // 2] if off[uid][0] > off[uid][1]]
    return [
        {
            "uid": uid,
            "truth": ", ".join(
                str(said[0][uid][level])
                for level in ("place", "region", "country")
                if said[0].get(uid, {}).get(level)
            ),
            "answers": [str(own.get(uid, {}).get("answer") or "") for own in said],
            "km": [one[uid] if math.isfinite(one[uid]) else None for one in km],
        }
        for uid in (*better, *worse)
    ]


def _files(path: Path) -> list[Path]:
    own = [path / EVALUATED] if (path / EVALUATED).is_file() else []
    return [*own, *(path / "predictions").glob("*.jsonl")]


def show_runs(table: Mapping[str, Any]) -> str:
    """Return the comparison for a terminal."""
    lines = [
        f"{name}  {run}, {steps} steps"
        for name, run, steps in zip(NAMES, table["runs"], table["steps"], strict=True)
    ]
    lines += ["", "settings that differ:" if table["settings"] else "the settings are the same"]
    lines += [f"  {key}: {a} | {b}" for key, (a, b) in table["settings"].items()]
    shown = [name for name in table["curves"] if name in SHOWN or _is_part(name)]
    if shown:
        lines += ["", f"means of the first and last {ENDS} steps{'':18}{'A':>20}{'B':>24}"]
    lines += [f"  {name:<40}" + "".join(map(_ends, table["curves"][name])) for name in shown]
    for name, found in table["evaluations"].items():
        lines += ["", f"evaluation {name}:", *show_comparison(found)]
    lines += [f"evaluation {name}: {why}" for name, why in table["not_compared"].items()]
    return "\n".join(lines)


def write_comparison(path: Path, paths: tuple[Path, Path], table: Mapping[str, Any]) -> None:
    """Write the comparison as a page."""
    rows = [RunDir(run).rows("metrics.jsonl") for run in paths]
    shown = [name for name in table["curves"] if name in SHOWN or _is_part(name)]
    body = render(
        "comparison.html",
        runs=list(zip(NAMES, table["runs"], table["steps"], strict=True)),
        colors=COLORS,
        settings=[(key, *map(str, both)) for key, both in table["settings"].items()],
        curves=[
            (
                name.replace("_", " "),
                [_ends(end).strip().replace("->", "→") for end in table["curves"][name]],
                _drawn(name, rows),
            )
            for name in shown
        ],
        evaluations=table["evaluations"],
        kilometres=MEASURES[:-1],
        samples={
            name: [
                (one["uid"], one["truth"], *_answered(one, 0), *_answered(one, 1))
                for one in samples
            ]
            for name, samples in table["samples"].items()
        },
        not_compared=table["not_compared"],
    )
    write_page(path, "GeoAgent-RL · two runs compared", [body])


def _drawn(name: str, rows: Sequence[Sequence[Mapping[str, Any]]]) -> Markup:
    lines = [
        (called, points_of(own, name), color)
        for called, own, color in zip(NAMES, rows, COLORS, strict=True)
    ]
    return curves(lines, name.replace("_", " "), floor=0.0)


def _answered(sample: Mapping[str, Any], side: int) -> tuple[str, str]:
    return sample["answers"][side] or "–", whole(sample["km"][side])


def _is_part(name: str) -> bool:
    return name.startswith("reward_") and name.endswith("_mean")


def _ends(change: tuple[float, float] | None) -> str:
    return f"{'-':>24}" if change is None else f"{f'{change[0]:.4g} -> {change[1]:.4g}':>24}"
