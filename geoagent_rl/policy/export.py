"""From a run's checkpoint to a product: base + adapter as one Hugging Face directory for plain
transformers and vLLM.

A checkpoint (see Learner.save) holds adapter/ and state.json, which names the base checkpoint that
the adapter was trained on. Works without a cluster and without DeepSpeed."""

from __future__ import annotations

import json
from pathlib import Path

import transformers

from geoagent_rl.policy.model import Policy, load_adapter, load_policy, save_merged
from geoagent_rl.run.directory import RunDir
from geoagent_rl.types import UserError


def export(source: Path, out: Path, base: str = "") -> Path:
    """Merge `source`, a checkpoint directory or a run (its newest checkpoint), into the new
    directory `out`.

    base: in place of the recorded base checkpoint, where that has moved. Returns the checkpoint
    that was merged. Raises UserError for a directory that is neither, a base that is gone, or an
    `out` that exists."""
    if out.exists():
        raise UserError(f"{out} exists already; give the name of a new directory")
    checkpoint = find_checkpoint(source)
    transformers.logging.disable_progress_bar()
    policy, base = load_checkpoint(checkpoint, base)
    save_merged(policy, base, str(out))
    return checkpoint


def load_checkpoint(source: Path, base: str = "", dtype: str = "") -> tuple[Policy, str]:
    """Return (base + adapter, base) of a checkpoint directory or a run's newest; dtype: in place of
    the recorded one.

    Raises UserError for a directory that is neither, or a base that is gone.
    """
    checkpoint = find_checkpoint(source)
    state = json.loads((checkpoint / "state.json").read_text())
    base = base or state.get("base", "")
    if not base:
        raise UserError(
            f"{checkpoint} does not say which checkpoint it was trained on; name it with --base"
        )
    if base.startswith("/") and not Path(base).is_dir():
        raise UserError(
            f"the checkpoint that {checkpoint} was trained on is gone ({base}); name it with --base"
        )
    adapter = json.loads((checkpoint / "adapter" / "adapter_config.json").read_text())
    policy = load_policy(
        base, dtype or state.get("dtype", "float32"), (adapter["r"], adapter["lora_alpha"])
    )
    load_adapter(policy, str(checkpoint / "adapter"))
    return policy, base


def find_checkpoint(source: Path) -> Path:
    """Return `source` itself where it is a checkpoint, or the newest complete one of the run
    `source`."""
    if (source / "adapter").is_dir() and (source / "state.json").is_file():
        return source
    checkpoints = RunDir(source).checkpoints()
    if checkpoints:
        return checkpoints[-1]
    if (source / "checkpoints" / "sft" / "state.json").is_file():
        return source / "checkpoints" / "sft"
    raise UserError(
        f"{source} is neither a checkpoint (adapter/ and state.json) nor a run that has one"
    )
