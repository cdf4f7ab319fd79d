"""How large a model is, from its shape alone: parameters, LoRA, key-value cache, image tokens. For
planning.

Shapes come from a checkpoint's config.json or from a small table of published ones. Exact up to
what a file adds (headers). Imports nothing heavy, so that a plan takes milliseconds. May know
nothing of clusters or GPUs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geoagent_rl.types import UserError

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
TINY_JUDGE = Path(__file__).parents[1] / "assets" / "tiny_judge" / "config.json"


@dataclass(frozen=True, slots=True)
class Vision:
    """The vision tower of Qwen2.5-VL: `merge` x `merge` patches of `patch` pixels make one image
    token.
    """

    depth: int
    hidden: int
    mlp: int
    out: int
    patch: int = 14
    temporal: int = 2
    merge: int = 2

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        h, merged = self.hidden, self.hidden * self.merge**2
        block = 2 * h + (3 * h * h + 3 * h) + (h * h + h) + (3 * h * self.mlp + 2 * self.mlp + h)
        merger = h + (merged * merged + merged) + (merged * self.out + self.out)
        return 3 * self.temporal * self.patch**2 * h + self.depth * block + merger


@dataclass(frozen=True, slots=True)
class Architecture:
    """A Qwen2.5(-VL), Qwen3 or Llama shape. group: of GPTQ-INT4 weights, 0 where they are not
    quantised.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    tied: bool = False
    qkv_bias: bool = True
    qk_norm: bool = False
    vision: Vision | None = None
    group: int = 0
    chars_per_token: float = 4.2  # of English text; Qwen's tokenizer

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of a layer's linear maps: q, k, v, o, gate, up, down. LoRA sits on all
        of them.
        """
        q, kv, h, f = (
            self.heads * self.head_dim,
            self.kv_heads * self.head_dim,
            self.hidden,
            self.mlp,
        )
        return ((h, q), (h, kv), (h, kv), (q, h), (h, f), (h, f), (f, h))

    @property
    def linear_parameters(self) -> int:
        """Return the parameters of the language model's layers, without biases."""
        return self.layers * sum(i * o for i, o in self.linears)

    @property
    def other_parameters(self) -> int:
        """Embeddings, head, biases and norms of the language model: what GPTQ leaves alone."""
        biases = sum(o for _, o in self.linears[:3]) if self.qkv_bias else 0
        norms = 2 * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
        return (
            self.vocab * self.hidden * (1 if self.tied else 2)
            + self.layers * (biases + norms)
            + self.hidden
        )

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return (
            self.linear_parameters
            + self.other_parameters
            + (self.vision.parameters if self.vision else 0)
        )

    def weight_bytes(self, dtype: str) -> int:
        """Return the bytes of all weights: at `dtype`, or 4 bits with a 16-bit scale and a 4-bit
        zero per group where quantised."""
        if not self.group:
            return self.parameters * BYTES[dtype]
        per_layer = sum(
            i * o // 2 + math.ceil(i / self.group) * o * 5 // 2 + 4 * i for i, o in self.linears
        )
        return self.layers * per_layer + 2 * (self.parameters - self.linear_parameters)

    def lora_parameters(self, rank: int) -> int:
        """Return the number of parameters of an adapter of this rank."""
        return self.layers * sum(rank * (i + o) for i, o in self.linears)

    def kv_bytes(self, dtype: str) -> int:
        """Return the bytes of the key-value cache, per token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES[dtype]

    def image_tokens(self, max_pixels: int) -> int:
        """Return the tokens of a photograph that fills the pixel budget (smaller ones have
        fewer)."""
        return max_pixels // (self.vision.patch * self.vision.merge) ** 2 if self.vision else 0


def qwen25vl(
    hidden: int,
    layers: int,
    heads: int,
    kv: int,
    mlp: int,
    vocab: int,
    vision_mlp: int,
    tied: bool = False,
) -> Architecture:
    """Return the shape of a Qwen2.5-VL."""
    vision = Vision(depth=32, hidden=1280, mlp=vision_mlp, out=hidden)
    return Architecture(hidden, layers, heads, kv, 128, mlp, vocab, tied, vision=vision)


# Published shapes, by a part of the checkpoint's name. The tiny ones are this project's own
# (policy/tiny.py).
PUBLISHED: dict[str, Architecture] = {
    "Qwen2.5-VL-3B": qwen25vl(2048, 36, 16, 2, 11008, 151936, 3420, tied=True),
    "Qwen2.5-VL-7B": qwen25vl(3584, 28, 28, 4, 18944, 152064, 3420),
    "Qwen2.5-VL-32B": qwen25vl(5120, 64, 40, 8, 27648, 152064, 3456),
    "Qwen2.5-VL-72B": qwen25vl(8192, 80, 64, 8, 29568, 152064, 3456),
    "Qwen3-4B": Architecture(
        2560, 36, 32, 8, 128, 9728, 151936, tied=True, qkv_bias=False, qk_norm=True
    ),
    "Qwen3-32B": Architecture(5120, 64, 64, 8, 128, 25600, 151936, qkv_bias=False, qk_norm=True),
    "SmolLM2-135M": Architecture(576, 30, 9, 3, 64, 1536, 49152, tied=True, qkv_bias=False),
    "tiny-policy": Architecture(
        128, 3, 2, 1, 64, 384, 576, tied=True, vision=Vision(2, 96, 192, 128), chars_per_token=15.5
    ),
}
ALIASES = {"tiny": "tiny-policy", "tiny-base": "tiny-policy", "smollm2": "SmolLM2-135M"}


def architecture(model: str, setting: str) -> Architecture:
    """Return the shape of a checkpoint directory, or of a name that contains a published one's.

    Raises UserError that names `setting` where neither is known.
    """
    file = Path(model) / "config.json"
    if file.is_file():
        return from_config(json.loads(file.read_text()), str(file))
    name = ALIASES.get(model, model).lower()
    for known, shape in PUBLISHED.items():
        if known.lower() in name:
            return replace(shape, group=128) if "gptq" in name else shape
    raise UserError(
        f"{setting}={model}: no such checkpoint here, and no published size is known under that name; "
        f"name one of {', '.join(PUBLISHED)}"
    )


def judge_architecture(model: str) -> Architecture:
    """Return the shape of a judge model. UserError for an unknown one."""
    if model == "tiny":
        return from_config(json.loads(TINY_JUDGE.read_text()), str(TINY_JUDGE))
    return architecture(model, "judge.model")


def from_config(config: dict[str, Any], where: str) -> Architecture:
    """From a Hugging Face config.json of Qwen2.5-VL, Qwen2, Qwen3 or Llama. UserError for
    others.
    """
    text = {**config, **config.get("text_config", {})}
    kind = text.get("model_type", "")
    if not any(kind.startswith(known) for known in ("qwen2", "qwen3", "llama")):
        raise UserError(f"{where}: sizes of {kind or 'an unnamed architecture'} are not known here")
    try:
        hidden, heads = text["hidden_size"], text["num_attention_heads"]
        vision = config.get("vision_config")
        return Architecture(
            hidden=hidden,
            layers=text["num_hidden_layers"],
            heads=heads,
            kv_heads=text.get("num_key_value_heads") or heads,
            head_dim=text.get("head_dim") or hidden // heads,
            mlp=text["intermediate_size"],
            vocab=text["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            qkv_bias=kind.startswith("qwen2"),
            qk_norm=kind.startswith("qwen3"),
            vision=vision and vision_shape(vision, hidden),
            group=(config.get("quantization_config") or {}).get("group_size", 0),
        )
    except KeyError as error:
        raise UserError(f"{where} has no {error}") from None


def vision_shape(vision: dict[str, Any], hidden: int) -> Vision:
    """Values that a config.json leaves out are Qwen2.5-VL's defaults."""
    return Vision(
        depth=vision.get("depth", 32),
        hidden=vision.get("hidden_size", 1280),
        mlp=vision.get("intermediate_size", 3420),
        out=vision.get("out_hidden_size", hidden),
        patch=vision.get("patch_size", 14),
        temporal=vision.get("temporal_patch_size", 2),
        merge=vision.get("spatial_merge_size", 2),
    )
