"""Where a job's files are. A Ray job runs in a copy of its working directory that goes when the job
ends, so data, runs and checkpoints lie on storage that all nodes see: relative paths are taken from
GEOAGENT_STORAGE where it is set."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from geoagent_rl.config import Config
from geoagent_rl.types import UserError

VARIABLE = "GEOAGENT_STORAGE"
BUILT_IN = ("scenes", "tiny", "tiny-base", "smollm2")
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in the driver of a submitted job


def storage_root() -> Path:
    """Return the directory that relative paths of a job start from."""
    return Path(os.environ.get(VARIABLE, "")).resolve()


def with_run_dir(config: Config) -> Config:
    """Return the configuration with the absolute path of its run directory, named by the time where
    run.dir is empty.

    Raises UserError for a submitted job whose run directory would be in the copy."""
    if (
        os.environ.get(IN_A_JOB)
        and VARIABLE not in os.environ
        and not Path(config.run.dir or "runs").is_absolute()
    ):
        raise UserError(
            f"in a submitted job the working directory is a copy that goes with the job: set run.dir to an absolute "
            f"path on storage that all nodes see, or {VARIABLE} on the nodes"
        )
    folder = config.run.dir or f"runs/{time.strftime('%Y%m%d-%H%M%S')}"
    run = dataclasses.replace(config.run, dir=str(storage_root() / folder))
    return dataclasses.replace(config, run=run)


def on_storage(config: Config) -> Config:
    """Return the configuration as a job here runs it: with absolute paths, as actors on other nodes
    and in other directories need them, prompts from their files, geocoders whose keys are there.

    What names no existing file (hub names, "scenes", "tiny") stays as it is. Raises UserError as
    `with_run_dir` does."""
    from geoagent_rl.geo.providers import with_keys_there  # loads geopy, later than the first line

    config, root = with_run_dir(config), storage_root()

    def existing(path: str) -> str:
        if not path or path in BUILT_IN or Path(path).is_absolute():
            return path
        return str(root / path) if (root / path).exists() else path

    def new(path: str) -> str:
        return str(root / path) if path else path

    data = dataclasses.replace(
        config.data,
        manifest=existing(config.data.manifest),
        eval_manifest=existing(config.data.eval_manifest),
    )
    encoder = dataclasses.replace(
        config.reward.encoder, model=existing(config.reward.encoder.model)
    )
    cache = dataclasses.replace(config.reward.cache, dir=new(config.reward.cache.dir))
    geocoder = with_keys_there(config.reward.geocoder, os.environ)
    moved = dataclasses.replace(
        config,
        data=data,
        policy=dataclasses.replace(config.policy, model=existing(config.policy.model)),
        sft=dataclasses.replace(config.sft, manifest=existing(config.sft.manifest)),
        reward=dataclasses.replace(config.reward, encoder=encoder, cache=cache, geocoder=geocoder),
        judge=dataclasses.replace(config.judge, model=existing(config.judge.model)),
    )
    from geoagent_rl.policy.prompt_files import with_prompts  # imports torch; -h does not need it

    return with_prompts(moved)
