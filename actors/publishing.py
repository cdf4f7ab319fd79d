"""Where a learner's weights go: policy versions for the engines, checkpoints to go on from.

Only rank 0 writes; the others take part in gathering what is sharded. May know the policy,
deepspeed_engine and the run's directory; nothing of rewards or Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from actors.deepspeed_engine import ShardedModule
from geoagent_rl.config import Config
from geoagent_rl.policy import model as policy_model
from geoagent_rl.policy.digest import weights_digest
from geoagent_rl.policy.model import Policy
from geoagent_rl.run.checkpoints import BackgroundWriter

Files = dict[str, NDArray[np.uint8]]  # of a PEFT directory: name to bytes


def published(
    policy: Policy, sharded: ShardedModule, config: Config, write: bool
) -> tuple[Files, str]:
    """Return the files of the current adapter and the digest of its tensors; nothing where `write`
    is False: on ranks that only take part in gathering.

    An adapter that engines merge is float32, so that they hold what an export gives; one that they
    serve has the base's dtype, to which they round it."""
    dtype = torch.float32 if config.rollout.swap == "merged" else policy.network.dtype
    state = policy_model.adapter_state(policy, sharded.gather)
    if not write:
        return {}, ""
    rounded = {name: tensor.to(dtype) for name, tensor in state.items()}
    return policy_model.adapter_files(policy, rounded), weights_digest(rounded)


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
        policy_model.save_adapter(policy, adapter, out / "adapter")
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
