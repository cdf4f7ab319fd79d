"""The one configuration: dataclasses that OmegaConf fills from a YAML file and dotted overrides, checked once.

An unknown key is an error that names the nearest known key. Nothing reads the environment here; API keys never enter
the configuration, only the *names* of the environment variables that hold them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from geoagent_rl.config_reward import JudgeConfig, RewardConfig
from geoagent_rl.config_rules import validate
from geoagent_rl.types import UserError

OPEN = "reward.custom."  # the user names what is under it


@dataclass
class RunConfig:
    dir: str = ""  # where everything of this run goes; empty: runs/<time> under the working directory
    seed: int = 0
    keep_checkpoints: int = 2
    save_every: int = 10  # steps


@dataclass
class DataConfig:
    manifest: str = MISSING  # manifest.parquet / .jsonl, a folder of photographs with a CSV, or "scenes" (rendered)
    eval_manifest: str = ""  # the same; empty: no evaluation
    max_image_megapixels: float = 80.0  # larger ones are refused as decompression bombs


@dataclass
class ScenesConfig:
    """Rendered street scenes, for machines without photographs (data/scenes.py). Sizes are numbers of pictures."""

    sft: int = 400
    train: int = 960
    heldout: int = 192  # new scenes of the places trained on
    hidden: int = 96  # scenes of places never trained on


@dataclass
class PolicyConfig:
    model: str = "tiny"  # "tiny" (base + SFT on scenes, cached), "tiny-base", a checkpoint directory, or a hub name
    tiny_seed: int = 0  # of the tiny base, apart from run.seed
    system_prompt: str = "tiny"  # "tiny" or "full": see policy/prompt.py
    max_pixels: int = 200_000  # image budget, pixels after resizing
    lora_rank: int = 64
    lora_alpha: int = 128
    dtype: str = "float32"  # float32 on CPU, bfloat16 on GPU
    gradient_checkpointing: bool = False


@dataclass
class RolloutConfig:
    engines: int = 1
    tensor_parallel: int = 1
    gpus_per_engine: float = 0  # 0: CPU
    cpus_per_engine: float = 1
    group_size: int = 8  # G
    prompts_per_step: int = 8
    temperature: float = 0.7
    max_tokens: int = 1024
    dynamic_sampling: bool = False  # replace groups whose advantages are all 0: see grpo/sampling.py
    max_refills: int = 16  # further prompts that one step may take; then it trains on what it has
    max_num_seqs: int = 64
    max_model_len: int = 4096
    memory: float = 0.7  # share of GPU memory, or GiB of KV cache on CPU
    swap: str = "adapter"  # how new weights reach the engine: adapter | merged
    timeout_s: float = 600.0  # for one group


@dataclass
class LearnerConfig:
    ranks: int = 1
    gpus_per_rank: float = 0
    cpus_per_rank: float = 1
    zero_stage: int = 0
    lr: float = 1e-5
    warmup_steps: float = 0.01  # below 1: a share of all steps
    lr_end: float = 1.0  # final learning rate as a share of lr (linear)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    loss: str = "grpo"  # grpo | dapo | dr_grpo | bnpo: see grpo/loss.py
    ratio: str = "token"  # token | sequence (GSPO)
    clip_low: float = 0.2
    clip_high: float = 0.2
    # none: the ratio of stale samples (max_staleness > 0) is against the sampler's log-probabilities, clipped and then
    # truncated at ratio_cap. token | sequence: the ratio is 1, and truncated weights against the sampler's
    # log-probabilities multiply the loss, at every staleness (at 0 they correct what engine and learner differ by).
    importance: str = "none"
    ratio_cap: float = 2.0  # importance weights, and ratios of stale samples, are truncated here
    overlong: str = "keep"  # keep | mask | penalty: see grpo/overlong.py
    overlong_buffer: float = 0.2  # penalty: the share of rollout.max_tokens over which it grows
    overlong_penalty: float = 1.0  # penalty: at the limit, in units of reward
    kl_beta: float = 0.001
    micro_batch_tokens: int = 8192
    timeout_s: float = 600.0


@dataclass
class SFTConfig:
    manifest: str = ""  # samples with CoT texts; empty: data.manifest
    epochs: int = 2
    batch_size: int = 32
    lr: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: float = 0.03
    lr_end: float = 0.0  # final learning rate as a share of lr (linear)


@dataclass
class EvalConfig:
    samples: int = 256
    temperature: float = 0.0
    geoscore_scale_km: float = 1805.0  # the paper's 18050 / 10


@dataclass
class Config:
    """Everything a run needs. See configs/*.yaml for complete examples."""

    steps: int = 100
    max_staleness: int = 0  # 0: exactly on-policy
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


def known_keys(node: Any = None, prefix: str = "") -> list[str]:
    """Every dotted key of the configuration, sections included."""
    node = OmegaConf.structured(Config) if node is None else node
    keys = []
    for name in node:
        keys.append(f"{prefix}{name}")
        if not OmegaConf.is_missing(node, name) and OmegaConf.is_dict(node[name]):
            keys += known_keys(node[name], f"{prefix}{name}.")
    return keys


def flat_keys(node: Any, prefix: str = "") -> list[str]:
    """The dotted keys of a plain (unstructured) configuration, leaves only."""
    keys = []
    for name, value in (node or {}).items():
        keys += flat_keys(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"]
    return keys


def load(path: str | Path | None = None, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Defaults <- YAML file <- dotted overrides ("rollout.engines=4"), validated.

    Raises UserError with one line for a missing file, broken YAML, an unknown key (naming the nearest), a wrong type
    or values that contradict each other.
    """
    layers = []
    if path is not None:
        try:
            layers.append(OmegaConf.load(path))
        except FileNotFoundError:
            raise UserError(f"no configuration file {path}; see configs/ for examples") from None
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise UserError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    for item in overrides:
        if "=" not in item:
            raise UserError(f"override {item!r} has no '='; write it as section.key=value")
    layers.append(OmegaConf.from_dotlist(list(overrides)))
    known = known_keys()
    for layer in layers:
        for key in flat_keys(OmegaConf.to_container(layer)):
            if key not in known and not key.startswith(OPEN):
                raise UserError(f"unknown configuration key {key!r}{nearest(key, known)}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), *layers)
        config = OmegaConf.to_object(merged) if not OmegaConf.missing_keys(merged) else None
    except OmegaConfBaseException as error:
        raise UserError(f"configuration: {str(error).splitlines()[0]}") from None
    if config is None:
        raise UserError(f"configuration: {', '.join(sorted(OmegaConf.missing_keys(merged)))} must be given")
    validate(config)
    return config


def nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    by_leaf = [k for k in known if k.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    hint = (by_leaf or close or [""])[0]
    return f"; did you mean {hint!r}?" if hint else ""


def to_yaml(config: Config) -> str:
    return OmegaConf.to_yaml(OmegaConf.structured(config))
