"""Gemma 3: one square view of 896 pixels, whose tokens see one another; most layers see a window.

Its two kinds of layers have a mask each. vLLM's attention on CPUs makes image tokens causal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geoagent_rl.policy.architecture import Architecture, Vision, text_shape
from geoagent_rl.policy.families.family import Family

if TYPE_CHECKING:
    from torch import Tensor

    from geoagent_rl.grpo.batching import MicroBatch
    from geoagent_rl.policy.rows import Mask

TEXT = {  # what the config.json of the 4B leaves out
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262208,
    "model_type": "gemma3_text",
}
TOWER = {
    "num_hidden_layers": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "image_size": 896,
    "patch_size": 14,
}


def siglip(
    depth: int, hidden: int, mlp: int, side: int, patch: int, out: int, tokens: int = 256
) -> Vision:
    """Return the shape of a SigLIP tower and Gemma's projector to `tokens` for a view."""
    h, places = hidden, (side // patch) ** 2
    block = 4 * (h * h + h) + (2 * h * mlp + mlp + h) + 4 * h
    parameters = 3 * patch**2 * h + h + places * h + depth * block + 2 * h + h * out + h
    merge = round((places / tokens) ** 0.5)
    return Vision(depth, hidden, mlp, out, parameters, patch, merge=merge, side=side)


def gemma(
    hidden: int, layers: int, heads: int, kv: int, mlp: int, head: int, vision: Vision, vocab: int
) -> Architecture:
    """Return a shape with what all of the family have: four norms in a layer, a tied head."""
    return Architecture(
        hidden,
        layers,
        heads,
        kv,
        head,
        mlp,
        vocab,
        tied=True,
        qkv_bias=False,
        qk_norm=True,
        norms=4,
        vision=vision,
    )


def published(
    hidden: int, layers: int, heads: int, kv: int, mlp: int, head: int = 256
) -> Architecture:
    """Return the shape of a published Gemma 3 with pictures."""
    vision = siglip(27, 1152, 4304, 896, 14, hidden)
    return gemma(hidden, layers, heads, kv, mlp, head, vision, 262208)


class Gemma3(Family):
    """See the module."""

    title = "Gemma 3"
    banned = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
    end = "<end_of_turn>"  # the tokenizer's own, <eos>, ends a text
    causal = False
    no_cpu_engine = "vLLM's attention there ignores that image tokens see one another"
    published = {
        "gemma-3-4b": published(2560, 34, 8, 4, 10240),
        "gemma-3-12b": published(3840, 48, 16, 8, 15360),
        "gemma-3-27b": published(5376, 62, 32, 16, 21504, head=128),
    }

    def image_budget(self, own: Any, max_pixels: int) -> dict[str, Any]:
        """Take one view of the whole picture, whose size is fixed."""
        return {"do_pan_and_scan": False}

    def picture_inputs(
        self, ids: Tensor, pixels: Tensor, grids: Tensor, config: Any
    ) -> dict[str, Any]:
        """Return pixels, and which tokens are a picture's: else transformers makes them causal."""
        types = (ids == config.image_token_id).long()
        return {"pixel_values": pixels, "token_type_ids": types}

    def mask(self, config: Any, batch: MicroBatch, positions: Tensor, dtype: Any) -> Mask:
        """Return a mask for each kind of layer: causal or of one picture; the same in a window."""
        from geoagent_rl.policy.rows import added, related

        shown, length = image_tokens(batch), batch.input_ids.shape[1]
        picture = shown.unsqueeze(-1) & shown.unsqueeze(-2)  # a prompt has one
        order = picture.new_ones(length, length).tril()
        full = related(batch) & (order | picture)
        distance = positions.unsqueeze(-1) - positions.unsqueeze(-2)
        near = distance < config.text_config.sliding_window
        return {
            "full_attention": added(full, dtype),
            "sliding_attention": added(full & near, dtype),
        }

    def blocks(self, config: Any, batch: MicroBatch, positions: Tensor) -> Mask:
        """Return `mask` for flex attention."""
        from geoagent_rl.policy.rows import blocks_where, related_of

        shown, sees = image_tokens(batch), related_of(batch)
        window = config.text_config.sliding_window

        def full(r: Tensor, q: Tensor, k: Tensor) -> Tensor:
            seen: Tensor = sees(r, q, k) & ((q >= k) | (shown[r, q] & shown[r, k]))
            return seen

        def near(r: Tensor, q: Tensor, k: Tensor) -> Tensor:
            seen: Tensor = full(r, q, k) & (positions[r, q] - positions[r, k] < window)
            return seen

        return {
            "full_attention": blocks_where(full, batch),
            "sliding_attention": blocks_where(near, batch),
        }

    def shape(self, config: Mapping[str, Any]) -> Architecture:
        """Take the 4B's values for what is left out."""
        text, vision = TEXT | config["text_config"], TOWER | config["vision_config"]
        depth, hidden, mlp, side, patch = (vision[name] for name in TOWER)
        tokens = config.get("mm_tokens_per_image", 256)
        tower = siglip(depth, hidden, mlp, side, patch, text["hidden_size"], tokens)
        return text_shape(text, tied=True, qkv_bias=False, qk_norm=True, norms=4, vision=tower)


def image_tokens(batch: MicroBatch) -> Tensor:
    """Return which tokens [R, L] are a picture's."""
    shown = batch.segments.new_zeros(batch.segments.numel()).bool()
    return shown.index_fill(0, batch.image_places, True).view(batch.segments.shape)
