"""Sections of the configuration: the run, data, policy, placement, SFT and evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from geoagent_rl.config.values import (
    RULES,
    Count,
    Decay,
    Natural,
    NotNegative,
    PathText,
    Positive,
    Seed,
    ShareBelowOne,
    key,
)
from geoagent_rl.types import AnswerForm


@dataclass(config=RULES)
class RunConfig:
    """Where a run writes and how often it saves and validates."""

    dir: PathText = key(
        "",
        "Everything of this run goes into this directory. Empty: runs/<time> under the working "
        "directory.",
    )
    seed: Seed = key(0, "Seeds prompts, sampling, the adapter's start and rendered scenes.")
    keep_checkpoints: Count = key(
        2, "So many of the newest checkpoints are kept, and besides them the best by validation."
    )
    save_every: Count = key(10, "A checkpoint is saved every so many steps.", "steps")
    validate_every: Natural = key(
        0, "The policy is validated on data.eval_manifest every so many steps. 0: never.", "steps"
    )
    validate_samples: Count = key(64, "A validation uses the first so many pictures.", "pictures")
    wandb: str = key(
        "",
        "This Weights & Biases project gets the metrics too (needs `pip install wandb`). "
        "Empty: none does.",
    )
    mlflow: str = key(
        "",
        "This MLflow experiment gets the metrics too, under MLFLOW_TRACKING_URI (needs "
        "`pip install mlflow`). Empty: none does.",
    )
    trackio: str = key(
        "",
        "This trackio project gets the metrics too (needs `pip install trackio`). Empty: none does.",
    )
    answers_every: Natural = key(
        10,
        "Every so many steps these three also get a table of answers with photograph, text and "
        "parts of the reward. 0: never.",
        "steps",
    )


@dataclass(config=RULES)
class DataConfig:
    """The photographs to train and to evaluate on."""

    manifest: PathText = key(
        "",
        "The training data: a manifest (.parquet or .jsonl), a folder of photographs with a CSV, "
        'or "scenes" (rendered). It must be given.',
    )
    eval_manifest: PathText = key(
        "", "The data of validation and evaluation, in the same forms. Empty: no evaluation."
    )
    max_image_megapixels: Positive = key(
        80.0, "Larger pictures are refused as decompression bombs.", "megapixels"
    )


@dataclass(config=RULES)
class CurriculumConfig:
    """The order of the photographs (data/curriculum.py). It depends on these, the seed, the
    manifest and what the run has recorded, so a resumed run goes on in it."""

    by: Literal["", "locatability", "difficulty", "reward_mean", "reward_std"] = key(
        "",
        "What says how easy a photograph is: a column of the manifest, or the rewards of this run's "
        "answers so far, from its second epoch on: their mean, or their standard deviation (first "
        "where answers differ). Empty: nothing.",
    )
    stages: Count = key(1, "Equal parts of an epoch, from easy to hard, each shuffled. 1: none.")
    mix: dict[str, Count] = Field(
        default_factory=dict,
        description="Photographs of each domain in a round, such as {street: 3, map: 1}. Empty: all.",
    )


@dataclass(config=RULES)
class ScenesConfig:
    """Rendered street scenes, for machines without photographs (tiny/scenes.py)."""

    sft: Count = key(400, "Scenes with annotators' reasoning, for the cold start.", "pictures")
    train: Count = key(960, "Scenes for GRPO.", "pictures")
    heldout: Count = key(192, "New scenes of the places trained on, for evaluation.", "pictures")
    hidden: Count = key(96, "Scenes of places never trained on, for evaluation.", "pictures")


@dataclass(config=RULES)
class PolicyConfig:
    """The vision-language model that is trained, and its LoRA adapter."""

    model: PathText = key(
        "tiny",
        'The starting model: "tiny" (base and SFT on scenes, cached), "tiny-base", a checkpoint '
        "directory or a hub name.",
    )
    architecture: str = key(
        "",
        "A published name, such as Qwen2.5-VL-7B, whose sizes `plan` uses before policy.model "
        "exists. Empty: policy.model is read.",
    )
    tiny_seed: Seed = key(0, "Seeds the tiny base. It is apart from run.seed.")
    answer: AnswerForm = key("levels", "The form of an answer: see docs/recipes.md.")
    system_prompt: str = key(
        "tiny",
        'What the policy is told: "tiny" or "full" (policy/prompt.py), "form" (the short prompt of '
        "policy.answer), or a file that ends in .txt, whose text is then part of the configuration.",
    )
    user_prompt: str = key(
        "Where was this photograph taken?",
        "The question beside the photograph: a text, or a file that ends in .txt.",
    )
    max_pixels: Annotated[int, Field(ge=784)] = key(
        200_000, "Pictures are scaled down to this size. 784 pixels are one token.", "pixels"
    )
    lora_rank: Count = key(64, "The rank of the LoRA adapter.")
    lora_alpha: Count = key(128, "The adapter counts lora_alpha / lora_rank times.")
    lora_dropout: ShareBelowOne = key(
        0.0,
        "The share of a layer's inputs that its adapter does not see while it learns. The masks of "
        "a step follow from run.seed and the step, so a resumed run draws the same ones.",
    )
    dtype: Literal["float32", "bfloat16"] = key(
        "float32", "The weights' type: float32 on a CPU, bfloat16 on a GPU."
    )
    gradient_checkpointing: bool | Literal["auto"] = key(
        "auto",
        "Activations are computed again: less memory, about a third more time. auto: on GPUs where "
        "`plan` finds no room for them, never on CPUs.",
    )


@dataclass(config=RULES)
class PlacementConfig:
    """Where parts run on a cluster (cluster/placement.py). What each asks for is in its section."""

    colocate: bool = key(
        False,
        "Engines and learner ranks share the same GPUs, a rank on each GPU of an engine. Engines "
        "sleep while the learner learns.",
    )
    wait_s: NotNegative = key(
        0.0,
        "How long to wait for nodes that an autoscaler still brings, or GPUs that others hold. "
        "0: a run that does not fit fails at once.",
        "s",
    )
    gpu: str = key("A100-80GB", "The GPU that `plan` reckons with: see geoagent_rl/plan/gpus.py.")


@dataclass(config=RULES)
class SFTConfig:
    """Step II, the supervised cold start on samples with reasoning."""

    manifest: PathText = key("", "Samples with reasoning. Empty: data.manifest.")
    epochs: Count = key(2, "Passes over the samples with reasoning.")
    batch_size: Count = key(32, "Samples of an optimizer step.", "samples")
    lr: Positive = key(1e-5, "The highest learning rate.")
    betas: tuple[ShareBelowOne, ShareBelowOne] = key((0.9, 0.999), "The betas of AdamW.")
    warmup_steps: NotNegative = key(
        0.03, "Steps of linear warm-up. Below 1: a share of all steps.", "steps"
    )
    lr_end: NotNegative = key(0.0, "The last step's learning rate as a share of lr.")
    lr_decay: Decay = key("linear", "How the learning rate goes from lr to its end.")


@dataclass(config=RULES)
class EvalConfig:
    """How photographs are located in an evaluation."""

    samples: Count = key(256, "At most so many photographs are located.", "photographs")
    completions: Count = key(
        1,
        "Completions per photograph. Of several the medoid counts (they need a temperature above "
        "0).",
    )
    temperature: NotNegative = key(0.0, "The sampling temperature. 0: greedy.")
    geoscore_scale_km: Positive = key(
        1805.0, "The distance of GeoScore's decay, the paper's 18050 / 10.", "km"
    )
