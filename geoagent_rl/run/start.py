"""What is checked before a run writes anything: that its directory is its own, and its inputs not.

Every message is one line for the user. Knows files and the configuration; nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from geoagent_rl.config import Config, flat, overridden, to_yaml
from geoagent_rl.run.directory import CONFIG, MARK, RunDir, settings_in
from geoagent_rl.types import UserError

# What only a run that has begun has in its directory.
RESULTS = ("metrics.jsonl", "sft_metrics.jsonl", "predictions.jsonl", "eval.json", "policy")
# Settings that no number of a run depends on.
HARMLESS = ("run.dir", "run.keep_checkpoints", "run.save_every")


def check_new(run: RunDir, config: Config, *inputs: str) -> None:
    """Raise UserError where the directory holds a run, a file of the user's, or the run's input.

    inputs: paths that are read besides those of the configuration."""
    _check_inputs(run, config, inputs)
    _check_config_file(run)
    if any((run.path / name).exists() for name in RESULTS) or run.checkpoints():
        raise UserError(
            f"{run.path} already holds a run; give another run.dir, or --resume to continue it"
        )


def check_resumed(run: RunDir, config: Config) -> None:
    """Raise UserError where the directory holds no run of GRPO that `config` can go on with."""
    if not holds_a_run(run.path):
        raise UserError(f"nothing to resume: there is no run in {run.path}")
    _check_inputs(run, config)
    _check_config_file(run)
    if (run.path / "policy").exists() and not run.checkpoints():
        raise UserError(
            f"{run.path} holds another kind of run than GRPO, which would lose its policy; start "
            f"one with policy.model={run.path / 'policy'} and another run.dir"
        )


def holds_a_run(folder: Path) -> bool:
    """Say whether a run has begun in a directory."""
    return (folder / CONFIG).is_file() and (
        (folder / "checkpoints").is_dir() or (folder / "metrics.jsonl").exists()
    )


def nothing_left(run: RunDir, config: Config) -> bool:
    """Say whether a run has come to its end, with all that `config` asks for."""
    evaluated = not config.data.eval_manifest or "grpo" in run.evaluations()
    return run.finished_steps() >= config.steps and evaluated and (run.path / "policy").is_dir()


def _check_inputs(run: RunDir, config: Config, more: Sequence[str] = ()) -> None:
    named = {
        "policy.model": config.policy.model,
        "data.manifest": config.data.manifest,
        "data.eval_manifest": config.data.eval_manifest,
        "sft.manifest": config.sft.manifest,
        "judge.model": config.judge.model,
        "reward.encoder.model": config.reward.encoder.model,
    } | {path: path for path in more}
    for key, value in named.items():
        if value and Path(value).exists() and Path(value).resolve().is_relative_to(run.path):
            raise UserError(
                f"{key}: {value} lies in the run's own directory, where it would be overwritten; "
                "give another run.dir"
            )


def _check_config_file(run: RunDir) -> None:
    """Refuse a config.yaml that no run has written: it is the user's."""
    file = run.path / CONFIG
    if not file.exists() or (run.path / "checkpoints").is_dir():
        return
    if not file.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise UserError(
            f"{file} is not of a run, which would write its own there; rename it or give another "
            "run.dir"
        )


def settings_of(file: Path) -> dict[str, Any]:
    """Return the leaves of a run's config.yaml by dotted key, {} where it cannot be read."""
    return flat(settings_in(file.read_bytes())) if file.is_file() else {}


def changed_settings(old: Mapping[str, Any], config: Config) -> list[str]:
    """Return what `config` does otherwise than the settings `old`: "key: old -> new"."""
    default, new = (flat(yaml.safe_load(to_yaml(c))) for c in (Config(), config))
    was = {**default, **old}  # a key that is newer than the run stood at its default
    keys = sorted({*was, *new} - {*HARMLESS}) if old else ()
    return [f"{k}: {was.get(k)} -> {new.get(k)}" for k in keys if was.get(k) != new.get(k)]


def resumed_config(overrides: Sequence[str], root: Path) -> Path:
    """Return the configuration that the run in run.dir=... (relative to `root`) was started with.

    Raises UserError where no run.dir is given, or no run is in it."""
    named = overridden("run.dir", overrides)
    if not named:
        raise UserError(
            "which run is to be continued? give its directory: train --resume run.dir=..."
        )
    folder = root / named
    if not holds_a_run(folder):
        raise UserError(f"nothing to resume: there is no run in {folder}")
    return folder / CONFIG
