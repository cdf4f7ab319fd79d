"""InternVL 3 and 3.5 in the Hugging Face form: square tiles of 448 pixels, an overview of a picture
that is cut up, an ordinary Qwen2 or Qwen3 behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoagent_rl.policy.architecture import Architecture, Vision, qwen3, text_shape
from geoagent_rl.policy.families.family import Family

TILES = 12  # at most, an overview apart
TOWER = {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096}


def internvit(
    depth: int,
    hidden: int,
    mlp: int,
    out: int,
    side: int = 448,
    patch: int = 14,
    biases: bool = True,
    head_norms: bool = False,
) -> Vision:
    """Return the shape of an InternViT and its projector. biases: of queries, keys and values;
    head_norms: of queries and keys, as in the tower of 6B."""
    h, merged = hidden, 4 * hidden
    attention = 4 * h * h + (4 if biases else 1) * h + (2 * h if head_norms else 0)
    norms = (2 if head_norms else 4) * h  # RMSNorm there, LayerNorm here
    block = attention + (2 * h * mlp + mlp + h) + norms + 2 * h
    embeddings = 3 * patch**2 * h + h + h + ((side // patch) ** 2 + 1) * h
    projector = 2 * merged + merged * out + out + out * out + out
    parameters = embeddings + depth * block + projector
    return Vision(depth, hidden, mlp, out, parameters, patch, side=side, views=TILES)


def internvl3(
    hidden: int, layers: int, heads: int, kv: int, mlp: int, large: bool = False, tied: bool = False
) -> Architecture:
    """Return the shape of a published InternVL3, whose language model is a Qwen2.5."""
    vision = tower(hidden, large)
    head = hidden // heads
    return Architecture(hidden, layers, heads, kv, head, mlp, 151674, tied, vision=vision)


def internvl3_5(
    hidden: int, layers: int, heads: int, mlp: int, large: bool = False, tied: bool = False
) -> Architecture:
    """Return the shape of a published InternVL3.5, whose language model is a Qwen3."""
    return qwen3(hidden, layers, heads, mlp, tied, tower(hidden, large))


def tower(out: int, large: bool) -> Vision:
    """Return one of the two published towers, of 300M and 6B."""
    if large:
        return internvit(45, 3200, 12800, out, biases=False, head_norms=True)
    return internvit(24, 1024, 4096, out)


class InternVL(Family):
    """See the module."""

    title = "InternVL3 and 3.5 (-hf)"
    banned = ("<IMG_CONTEXT>", "<img>", "</img>", "<video>")
    published = {
        "InternVL3-1B": internvl3(896, 24, 14, 2, 4864),
        "InternVL3-2B": internvl3(1536, 28, 12, 2, 8960),
        "InternVL3-8B": internvl3(3584, 28, 28, 4, 18944),
        "InternVL3-14B": internvl3(5120, 48, 40, 8, 13824),
        "InternVL3-38B": internvl3(5120, 64, 40, 8, 27648, large=True),
        "InternVL3-78B": internvl3(8192, 80, 64, 8, 29568, large=True),
        "InternVL3_5-1B": internvl3_5(1024, 28, 16, 3072),
        "InternVL3_5-2B": internvl3_5(2048, 28, 16, 6144),
        "InternVL3_5-4B": internvl3_5(2560, 36, 32, 9728),
        "InternVL3_5-8B": internvl3_5(4096, 36, 32, 12288),
        "InternVL3_5-14B": internvl3_5(5120, 40, 40, 17408),
        "InternVL3_5-38B": internvl3_5(5120, 64, 64, 25600, large=True),
    }

    def image_budget(self, own: Any, max_pixels: int) -> dict[str, Any]:
        """Limit the tiles that a picture is cut into: at least one, at most the checkpoint's."""
        size, images = own.image_processor.size, own.image_processor
        tiles = max_pixels // (size["height"] * size["width"])
        return {
            "crop_to_patches": True,
            "min_patches": 1,
            "max_patches": max(1, min(tiles, images.max_patches)),
        }

    def shape(self, config: Mapping[str, Any]) -> Architecture:
        """Take the tower of 300M for what is left out."""
        text, vision = config["text_config"], config["vision_config"]
        depth, hidden, mlp = (vision.get(name, value) for name, value in TOWER.items())
        side, patch = vision.get("image_size", 448), vision.get("patch_size", 14)
        return text_shape(
            text,
            tied=bool(config.get("tie_word_embeddings", True)),
            vision=internvit(
                depth,
                hidden,
                mlp,
                text["hidden_size"],
                side if isinstance(side, int) else side[0],
                patch if isinstance(patch, int) else patch[0],
                vision.get("attention_bias", False),
                vision.get("use_qk_norm", False),
            ),
        )
