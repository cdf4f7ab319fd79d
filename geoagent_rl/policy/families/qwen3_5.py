"""Qwen3.5: Qwen3-VL's tower without deepstack, before layers of which three in four carry a state
from token to token (gated delta rule) and one has attention.

A mask does not reach that state: completions cannot stand behind one prompt, nor prompts in one
row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoagent_rl.policy.architecture import Architecture, Recurrent, Vision, text_shape
from geoagent_rl.policy.families.family import Family
from geoagent_rl.policy.families.qwen3_vl import Qwen3VL, qwen3_vision, tower_shape

RULE = {  # of the 9B
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}


def qwen3_5(
    hidden: int,
    layers: int,
    heads: int,
    kv: int,
    mlp: int,
    rule: int,
    vision: Vision,
    tied: bool = False,
) -> Architecture:
    """Return the shape of a published Qwen3.5. rule: value heads of the delta rule."""
    recurrent = Recurrent(layers * 3 // 4, 16 * 128, rule * 128, rule)
    return Architecture(
        hidden,
        layers,
        heads,
        kv,
        256,
        mlp,
        248320,
        tied,
        qkv_bias=False,
        qk_norm=True,
        gated=True,
        recurrent=recurrent,
        vision=vision,
    )


class Qwen35(Qwen3VL):
    """See the module."""

    title = "Qwen3.5"
    chat = {"enable_thinking": False}  # our answers open <think> themselves
    adapted = (*Family.adapted, "in_proj_qkv", "in_proj_z", "out_proj")
    shares_prompts = False
    no_cpu_engine = "vLLM computes the delta rule there in bfloat16 only"
    adapter_swap = False  # vLLM cuts the delta rule's maps in four, the adapter's in two
    published = {
        "Qwen3.5-2B": qwen3_5(
            2048, 24, 8, 2, 6144, 16, qwen3_vision(24, 1024, 4096, 2048, 2304, 0), tied=True
        ),
        "Qwen3.5-9B": qwen3_5(
            4096, 32, 16, 4, 12288, 32, qwen3_vision(27, 1152, 4304, 4096, 2304, 0)
        ),
        "Qwen3.5-27B": qwen3_5(
            5120, 64, 24, 4, 17408, 48, qwen3_vision(27, 1152, 4304, 5120, 2304, 0)
        ),
    }

    def shape(self, config: Mapping[str, Any]) -> Architecture:
        """Take the 9B's values for what is left out."""
        text = RULE | {"head_dim": 256} | config["text_config"]
        layers = text["num_hidden_layers"]
        kinds = text.get("layer_types") or [i % 4 == 3 for i in range(layers)]
        attention = sum(kind in ("full_attention", True) for kind in kinds)
        heads = text["linear_num_value_heads"]
        recurrent = Recurrent(
            layers - attention,
            text["linear_num_key_heads"] * text["linear_key_head_dim"],
            heads * text["linear_value_head_dim"],
            heads,
            text["linear_conv_kernel_dim"],
        )
        vision = tower_shape(config["vision_config"], levels=0)
        tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
        return text_shape(text, tied=tied, gated=True, recurrent=recurrent, vision=vision)
