"""How large a model is, from its shape alone: parameters, LoRA, key-value cache, image tokens.

Exact up to what a file adds (headers). Families make these of a checkpoint's config.json; sizes.py
looks models up. Imports nothing heavy, so that a plan takes milliseconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Vision:
    """A vision tower and its projector: `merge` x `merge` patches of `patch` pixels make one image
    token.

    parameters: of both. side: of the square views, in pixels, that a tower of one size takes; 0
    where it takes pictures of any size. views: the most, an overview of a picture cut up apart.
    """

    depth: int
    hidden: int
    mlp: int
    out: int
    parameters: int
    patch: int = 14
    temporal: int = 1
    merge: int = 2
    side: int = 0
    views: int = 1

    def pixels(self, max_pixels: int) -> int:
        """Return the pixels that are looked at of a photograph that fills the budget."""
        if not self.side:
            return max_pixels
        cut = max(1, min(self.views, max_pixels // self.side**2))
        return (cut + (cut > 1)) * self.side**2


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a language model, with a vision tower or without. norms: of width `hidden` in a
    layer; group: of GPTQ-INT4 weights, 0 where they are not quantised.
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
    norms: int = 2
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
        norms = self.norms * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
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
        if self.vision is None:
            return 0
        return self.vision.pixels(max_pixels) // (self.vision.patch * self.vision.merge) ** 2


def text_shape(text: Mapping[str, Any], **more: Any) -> Architecture:
    """Return the shape of a text_config, or of a language model's config.json. more: in place of
    what it says. KeyError for a value that is missing."""
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    found = {
        "hidden": hidden,
        "layers": text["num_hidden_layers"],
        "heads": heads,
        "kv_heads": text.get("num_key_value_heads") or heads,
        "head_dim": text.get("head_dim") or hidden // heads,
        "mlp": text["intermediate_size"],
        "vocab": text["vocab_size"],
        "tied": bool(text.get("tie_word_embeddings", False)),
        "qkv_bias": text["model_type"].startswith("qwen2"),
        "qk_norm": text["model_type"].startswith("qwen3"),
    }
    return Architecture(**(found | more))
