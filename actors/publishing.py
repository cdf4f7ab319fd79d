"""Where a learner's weights go: policy versions for the engines, checkpoints to go on from.

Only rank 0 writes; the others take part in gathering what is sharded. May know the policy,
deepspeed_engine and the run's directory; nothing of rewards or Ray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from actors.deepspeed_engine import ShardedModule
from geoagent_rl.config import Config
from geoagent_rl.files import directory_at_once
from geoagent_rl.policy import model as policy_model
from geoagent_rl.policy.model import Policy
from geoagent_rl.run.checkpoints import BackgroundWriter


def publish(
    policy: Policy,
    sharded: ShardedModule,
    config: Config,
    path: Path,
    write: bool,
) -> str:
    """Write the current adapter as the new directory `path`; keep the newest max_staleness + 2 of
    its siblings. An adapter that engines merge is float32, so that they hold what an export gives;
    one that they serve has the base's dtype, to which they round it. write: whether this is rank 0.
    Returns the digest of what it wrote, "" on other ranks."""
    dtype = torch.float32 if config.rollout.swap == "merged" else policy.network.dtype
    with directory_at_once(path) if write else nullcontext(path) as out:
        digest = policy_model.save_adapter(policy, str(out), dtype, sharded.gather, write)
    if write:
        keep = config.max_staleness + 2
        for old in outdated(sorted(path.parent.glob("v??????")), path, keep):
            shutil.rmtree(old)
    return digest


def outdated(versions: Sequence[Path], newest: Path, keep: int) -> list[Path]:
    """Return published versions, in order, that can go: all but `keep` up to `newest`, and later
    ones: of a learner that died after it had come further than the checkpoint this one began
    with."""
    until = [version for version in versions if version <= newest]
    return until[:-keep] + [version for version in versions if version > newest]


def save_state(
    policy: Policy,
    sharded: ShardedModule,
    writer: BackgroundWriter,
    directory: Path,
    state: dict[str, Any],
    write: bool,
) -> None:
    """Copy adapter/ (PEFT), optimizer.safetensors (AdamW by parameter name, whole) and
    rng.safetensors, and let `writer` write them beside `state`, which becomes state.json.
    """
    adapter = policy_model.adapter_state(policy, sharded.gather)
    optimizer = dict(sharded.state())
    if not write:
        return
    random = {"torch": torch.get_rng_state()}

    def files(out: Path) -> None:
        policy_model.write_adapter(policy, adapter, out / "adapter")
        save_file(optimizer, out / "optimizer.safetensors")
        save_file(random, out / "rng.safetensors")

    writer.begin(directory, files, state)


def load_state(policy: Policy, sharded: ShardedModule, directory: Path) -> dict[str, Any]:
    """Put what `save_state` wrote back, with any number of ranks; return its state.json.

    Above ZeRO 0 a first step must have made room for the optimizer's state."""
    state: dict[str, Any] = json.loads((directory / "state.json").read_text())
    policy_model.load_adapter(policy, f"{directory}/adapter", sharded.gather)
    sharded.set_state(load_file(directory / "optimizer.safetensors"), state["updates"])
    torch.set_rng_state(load_file(directory / "rng.safetensors")["torch"])
    return state
