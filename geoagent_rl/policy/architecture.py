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
class Recurrent:
    """The layers of a language model that have a gated delta rule in place of attention.

    layers: how many; key, value: width of all heads; heads: of values."""

    layers: int
    key: int
    value: int
    heads: int
    conv: int = 4

    def linears(self, hidden: int) -> tuple[tuple[int, int], ...]:
        """Return Return (inputs, outputs) of a layer's maps that take an adapter: qkv, z, out."""
        return ((hidden, 2 * self.key + self.value), (hidden, self.value), (self.value, hidden))

    def other_parameters(self, hidden: int) -> int:
        """Return all else in a layer: convolution, the maps a and b, decay, steps, norm."""
        convolution = self.conv * (2 * self.key + self.value)
        return convolution + 2 * hidden * self.heads + 2 * self.heads + self.value // self.heads


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a language model, with a vision tower or without. norms: of width `hidden` in a
    layer; gated: queries bring a gate of their own width; recurrent: some of the layers; group: of
    GPTQ-INT4 weights, 0 where they are not quantised.
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
    gated: bool = False
    recurrent: Recurrent | None = None
    vision: Vision | None = None
    group: int = 0
    chars_per_token: float = 4.2  # of English text; Qwen's tokenizer

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """Return (inputs, outputs) of a layer's linear maps: q, k, v, o, gate, up, down. LoRA sits
        on all of them."""
        q, kv, h = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden
        asked = 2 * q if self.gated else q
        return ((h, asked), (h, kv), (h, kv), (q, h), *self.mlp_linears)

    @property
    def mlp_linears(self) -> tuple[tuple[int, int], ...]:
        """Return (inputs, outputs) of gate, up and down."""
        h, f = self.hidden, self.mlp
        return ((h, f), (h, f), (f, h))

    @property
    def attention_layers(self) -> int:
        """Return how many layers have attention, and so a key-value cache."""
        return self.layers - (self.recurrent.layers if self.recurrent else 0)

    @property
    def all_linears(self) -> list[tuple[int, int]]:
        """Return (inputs, outputs) of the linear maps of all layers."""
        found = list(self.linears) * self.attention_layers
        if self.recurrent:
            layer = (*self.recurrent.linears(self.hidden), *self.mlp_linears)
            found += list(layer) * self.recurrent.layers
        return found

    @property
    def linear_parameters(self) -> int:
        """Return the parameters of the language model's layers, without biases."""
        return sum(i * o for i, o in self.all_linears)

    @property
    def other_parameters(self) -> int:
        """Count embeddings, head, biases and norms of the language model: GPTQ leaves them."""
        biases = sum(o for _, o in self.linears[:3]) if self.qkv_bias else 0
        heads = 2 * self.head_dim if self.qk_norm else 0
        others = self.recurrent
        return (
            self.vocab * self.hidden * (1 if self.tied else 2)
            + self.layers * self.norms * self.hidden
            + self.attention_layers * (biases + heads)
            + (others.layers * others.other_parameters(self.hidden) if others else 0)
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
        quantised = sum(
            i * o // 2 + math.ceil(i / self.group) * o * 5 // 2 + 4 * i for i, o in self.all_linears
        )
        return quantised + 2 * (self.parameters - self.linear_parameters)

    def lora_parameters(self, rank: int) -> int:
        """Return the number of parameters of an adapter of this rank."""
        return sum(rank * (i + o) for i, o in self.all_linears)

    def kv_bytes(self, dtype: str) -> int:
        """Return the bytes of the key-value cache, per token."""
        return 2 * self.attention_layers * self.kv_heads * self.head_dim * BYTES[dtype]

    def image_tokens(self, max_pixels: int) -> int:
        """Return the tokens of a photograph that fills the pixel budget (smaller ones have
        fewer)."""
        if self.vision is None:
            return 0
        return self.vision.pixels(max_pixels) // (self.vision.patch * self.vision.merge) ** 2


def qwen3(
    hidden: int, layers: int, heads: int, mlp: int, tied: bool, vision: Vision
) -> Architecture:
    """Return the shape of a published model whose language model is a dense Qwen3."""
    return Architecture(
        hidden, layers, heads, 8, 128, mlp, 151936, tied, False, qk_norm=True, vision=vision
    )


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
