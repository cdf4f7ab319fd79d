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

from geoagent_rl.config.reward import JudgeConfig, RewardConfig
from geoagent_rl.config.rules import validate
from geoagent_rl.types import UserError

OPEN = "reward.custom."  # the user names what is under it


@dataclass
class RunConfig:
    dir: str = ""  # where everything of this run goes; empty: runs/<time> under the working directory
    seed: int = 0  # of prompts, sampling, adapter initialisation and rendered scenes
    keep_checkpoints: int = 2  # the newest so many; the best by validation is kept besides
    save_every: int = 10  # steps
    validate_every: int = 0  # steps from one validation on pictures of data.eval_manifest to the next; 0: none
    validate_samples: int = 64  # pictures of a validation, the first ones
    wandb: str = ""  # a Weights & Biases project that gets the metrics too; empty: none (needs `pip install wandb`)


@dataclass
class DataConfig:
    manifest: str = MISSING  # manifest.parquet / .jsonl, a folder of photographs with a CSV, or "scenes" (rendered)
    eval_manifest: str = ""  # the same; empty: no evaluation
    max_image_megapixels: float = 80.0  # larger ones are refused as decompression bombs


@dataclass
class ScenesConfig:
    """Rendered street scenes, for machines without photographs (tiny/scenes.py). Sizes are numbers of pictures."""

    sft: int = 400  # with annotators' reasoning, for the cold start
    train: int = 960  # for GRPO
    heldout: int = 192  # new scenes of the places trained on
    hidden: int = 96  # scenes of places never trained on


@dataclass
class PolicyConfig:
    model: str = "tiny"  # "tiny" (base + SFT on scenes, cached), "tiny-base", a checkpoint directory, or a hub name
    architecture: str = ""  # a published name, such as Qwen2.5-VL-7B: what `plan` sizes before `model` exists
    tiny_seed: int = 0  # of the tiny base, apart from run.seed
    system_prompt: str = "tiny"  # "tiny" or "full": see policy/prompt.py
    max_pixels: int = 200_000  # image budget, pixels after resizing
    lora_rank: int = 64
    lora_alpha: int = 128  # the adapter counts lora_alpha / lora_rank times
    dtype: str = "float32"  # float32 on CPU, bfloat16 on GPU
    gradient_checkpointing: bool = False  # less memory, about a third more time


@dataclass
class RolloutConfig:
    engines: int = 1  # vLLM engines, each an actor
    tensor_parallel: int = 1  # GPUs that share one model
    gpus_per_engine: float = 0  # 0: CPU
    cpus_per_engine: float = 1  # as declared to Ray
    group_size: int = 8  # G
    prompts_per_step: int = 8  # groups of an optimizer step
    temperature: float = 0.7  # of sampling; the learner's log-probabilities are at it too
    max_tokens: int = 1024  # of a completion; longer ones are cut off
    dynamic_sampling: bool = False  # replace groups whose advantages are all 0: see grpo/sampling.py
    max_refills: int = 16  # further prompts that one step may take; then it trains on what it has
    max_num_seqs: int = 64  # completions that one engine generates at once
    max_model_len: int = 4096  # tokens of prompt (image included) and completion
    memory: float = 0.7  # share of GPU memory, or GiB of KV cache on CPU
    swap: str = "adapter"  # how new weights reach the engine: adapter | merged
    timeout_s: float = 600.0  # for one group
    max_restarts: int = 5  # of each engine that dies, over the whole run; the others go on without it then


@dataclass
class LearnerConfig:
    ranks: int = 1  # learner processes, one GPU each
    gpus_per_rank: float = 0  # 0: CPU
    cpus_per_rank: float = 1  # as declared to Ray; without GPUs also a rank's threads
    zero_stage: int = 0  # DeepSpeed ZeRO: 0 | 2 | 3
    lr: float = 1e-5
    warmup_steps: float = 0.01  # below 1: a share of all steps
    lr_end: float = 1.0  # final learning rate as a share of lr (linear)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0  # gradients are scaled down to it
    skip_grad_norm: float = 0.0  # a step whose norm before that is above this is skipped and counted; 0: none is
    loss: str = "grpo"  # grpo | dapo | dr_grpo | bnpo: see grpo/loss.py
    ratio: str = "token"  # token | sequence (GSPO)
    clip_low: float = 0.2  # ratios are clipped to 1 - clip_low .. 1 + clip_high
    clip_high: float = 0.2
    # none: the ratio of stale samples (max_staleness > 0) is against the sampler's log-probabilities, clipped and then
    # truncated at ratio_cap. token | sequence: the ratio is 1, and truncated weights against the sampler's
    # log-probabilities multiply the loss, at every staleness (at 0 they correct what engine and learner differ by).
    importance: str = "none"
    ratio_cap: float = 2.0  # importance weights, and ratios of stale samples, are truncated here
    overlong: str = "keep"  # keep | mask | penalty: see grpo/overlong.py
    overlong_buffer: float = 0.2  # penalty: the share of rollout.max_tokens over which it grows
    overlong_penalty: float = 1.0  # penalty: at the limit, in units of reward
    kl_beta: float = 0.001  # weight of the KL penalty against the starting checkpoint; 0: no reference pass
    micro_batch_tokens: int = 8192  # of one forward pass, padding included; lower it when memory is short
    share_prompts: bool = True  # completions of one prompt behind one copy of it: see policy/rows.py
    timeout_s: float = 600.0
    max_restarts: int = 5  # of a learner that dies, over the whole run; each goes back to the newest checkpoint


@dataclass
class PlacementConfig:
    """Where parts run on a cluster (cluster/placement.py). How much each asks for is in its own section."""

    colocate: bool = False  # one engine and one learner rank share a GPU; the engine sleeps while the learner learns
    wait_s: float = 0.0  # for nodes that are still to come (an autoscaler's) or GPUs that others hold; 0: fail at once
    gpu: str = "A100-80GB"  # for `plan`: see geoagent_rl/plan/gpus.py


@dataclass
class SFTConfig:
    manifest: str = ""  # samples with CoT texts; empty: data.manifest
    epochs: int = 2  # over the samples with reasoning
    batch_size: int = 32  # samples of an optimizer step
    lr: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: float = 0.03
    lr_end: float = 0.0  # final learning rate as a share of lr (linear)


@dataclass
class EvalConfig:
    samples: int = 256  # photographs, at most
    completions: int = 1  # per photograph; of several the medoid counts (they need a temperature above 0)
    temperature: float = 0.0  # 0: greedy
    geoscore_scale_km: float = 1805.0  # the paper's 18050 / 10


@dataclass
class Config:
    """Everything a run needs. See configs/*.yaml for complete examples."""

    steps: int = 100  # optimizer steps of GRPO
    max_staleness: int = 0  # 0: exactly on-policy
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)
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


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of a plain (unstructured) configuration by their dotted keys."""
    leaves = {}
    for name, value in (node or {}).items():
        inner = isinstance(value, dict) and value
        leaves |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return leaves


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
        if OmegaConf.select(layer, "reward.cache.url") is False:  # YAML reads a bare off as false
            OmegaConf.update(layer, "reward.cache.url", "off")
        for key in flat(OmegaConf.to_container(layer)):
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
