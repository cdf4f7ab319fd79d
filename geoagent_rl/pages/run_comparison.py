"""Two runs side by side: settings that differ, the ends of their curves, paired differences of
their evaluations.

Evaluations are compared where both runs have kept predictions of the same name (RUN/predictions/),
on the photographs that both have, with A's GeoScore scale. The first run is A, the second B."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from geoagent_rl.config import Config, flat, to_yaml
from geoagent_rl.evaluation.predictions import from_rows
from geoagent_rl.evaluation.summary import compare
from geoagent_rl.evaluation.text import show_comparison
from geoagent_rl.metrics.table import is_metric
from geoagent_rl.pages.recorded import ENDS, change_of, points_of
from geoagent_rl.run.directory import CONFIG, RunDir
from geoagent_rl.run.start import HARMLESS, settings_of
from geoagent_rl.types import UserError

NAMES = ("A", "B")
EVALUATED = "predictions.jsonl"  # of `eval run`
SHOWN = (  # of the metrics, in a terminal, beside the mean of every part of the reward
    *("reward_total_mean", "validation_reward", "zero_variance_share", "unscorable_share"),
    *("data_failure_share", "truncated_share", "completion_tokens_mean", "kl", "entropy"),
    *("grad_norm", "step_seconds", "tokens_per_s", "efficiency"),
)


def compare_runs(paths: tuple[Path, Path]) -> dict[str, Any]:
    """Return {runs, steps, settings, curves, evaluations, not_compared} of two run directories.

    settings: {key: [A, B]} that differ. curves: {metric: [[first, last] of A, of B]}, means of
    the first and last 5 steps, None where a run has none. evaluations: {name: summary.compare}.
    not_compared: {name: why}. Raises UserError for a directory without a run.
    """
    for path in paths:
        if not (path / CONFIG).is_file():
            raise UserError(f"{path} holds no {CONFIG}; give two run directories")
    runs = [RunDir(path) for path in paths]
    rows = [run.rows("metrics.jsonl") for run in runs]
    evaluations, not_compared = _evaluations(paths)
    return {
        "runs": [str(path) for path in paths],
        "steps": [len(found) for found in rows],
        "settings": _settings(paths),
        "curves": _curves(rows),
        "evaluations": evaluations,
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


def _evaluations(paths: tuple[Path, Path]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return ({name: comparison}, {name: why there is none}) of the predictions of both runs."""
    found: dict[str, Any] = {}
    not_compared: dict[str, str] = {}
    default = Config().eval.geoscore_scale_km
    scale_km = float(settings_of(paths[0] / CONFIG).get("eval.geoscore_scale_km", default))
    a, b = ({file.relative_to(path): file for file in _files(path)} for path in paths)
    for name in sorted({*a, *b}):
        if name not in a or name not in b:
            not_compared[name.stem] = f"only {NAMES[name in b]} has kept predictions"
            continue
        systems = [
            from_rows(called, RunDir(file.parent).rows(file.name))
            for called, file in zip(NAMES, (a[name], b[name]), strict=True)
        ]
        try:
            found[name.stem] = compare(systems, scale_km)
        except UserError as error:
            not_compared[name.stem] = str(error)
    return found, not_compared


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


def _is_part(name: str) -> bool:
    return name.startswith("reward_") and name.endswith("_mean")


def _ends(change: tuple[float, float] | None) -> str:
    return f"{'-':>24}" if change is None else f"{f'{change[0]:.4g} -> {change[1]:.4g}':>24}"
