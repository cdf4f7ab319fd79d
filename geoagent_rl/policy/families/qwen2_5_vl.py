"""Qwen2.5-VL: pictures of any size in patches of 14, windows in the tower, M-RoPE.

Later Qwen families differ in what qwen3_vl.py says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from geoagent_rl.policy.architecture import Architecture, Vision, text_shape
from geoagent_rl.policy.families.family import Family

if TYPE_CHECKING:
    from torch import Tensor

    from geoagent_rl.grpo.batching import MicroBatch


def qwen2_5_vision(depth: int, hidden: int, mlp: int, out: int, patch: int = 14) -> Vision:
    """Return the shape of a Qwen2.5-VL's tower (RMSNorm, gated layers with biases)."""
    h, merged, temporal = hidden, hidden * 4, 2
    block = 2 * h + (3 * h * h + 3 * h) + (h * h + h) + (3 * h * mlp + 2 * mlp + h)
    merger = h + (merged * merged + merged) + (merged * out + out)
    parameters = 3 * temporal * patch**2 * h + depth * block + merger
    return Vision(depth, hidden, mlp, out, parameters, patch, temporal)


def published(
    hidden: int, layers: int, heads: int, kv: int, mlp: int, vocab: int, vision_mlp: int
) -> Architecture:
    """Return the shape of a published Qwen2.5-VL."""
    vision = qwen2_5_vision(32, 1280, vision_mlp, hidden)
    tied = hidden == 2048  # the 3B alone
    return Architecture(hidden, layers, heads, kv, 128, mlp, vocab, tied, vision=vision)


class Qwen25VL(Family):
    """See the module."""

    title = "Qwen2.5-VL"
    banned = (
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    )
    vision_modules = ("visual",)
    old_names: ClassVar[tuple[tuple[str, str], ...]] = (
        ("model.visual.", "visual."),
        ("model.language_model.", "model."),
    )
    published = {
        "Qwen2.5-VL-3B": published(2048, 36, 16, 2, 11008, 151936, 3420),
        "Qwen2.5-VL-7B": published(3584, 28, 28, 4, 18944, 152064, 3420),
        "Qwen2.5-VL-32B": published(5120, 64, 40, 8, 27648, 152064, 3456),
        "Qwen2.5-VL-72B": published(8192, 80, 64, 8, 29568, 152064, 3456),
    }

    def image_budget(self, own: Any, max_pixels: int) -> dict[str, Any]:
        """Limit the area; a checkpoint's own, smaller limit stays: the tiny policy knows only
        images of its training size."""
        size = dict(own.image_processor.size)  # both "edges" are areas in pixels
        largest = min(max_pixels, size["longest_edge"])
        smallest = min(size["shortest_edge"], largest)
        return {"size": {"shortest_edge": smallest, "longest_edge": largest}}

    def grid(self, own: Any, inputs: Mapping[str, Any]) -> Tensor:
        """Return frames (one), rows and columns of patches."""
        found: Tensor = inputs["image_grid_thw"]
        return found

    def merge(self, config: Any) -> int:
        """Merge as the tower does."""
        found: int = config.vision_config.spatial_merge_size
        return found

    def picture_inputs(
        self, ids: Tensor, pixels: Tensor, grids: Tensor, config: Any
    ) -> dict[str, Any]:
        """Return pixels, grids, and which tokens are a picture's."""
        types = (ids == config.image_token_id).long()
        return {
            "pixel_values": pixels,
            "image_grid_thw": grids.to(pixels.device),
            "mm_token_type_ids": types,
        }

    def image_features(self, network: Any, pixels: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
        """Compute windows of one size as one batch, see qwen2_5_vision.py."""
        from geoagent_rl.policy.families.qwen2_5_vision import image_features

        return image_features(network.model.visual, pixels, grids)

    def position_ids(self, network: Any, batch: MicroBatch, grids: Tensor | None) -> Tensor:
        """Return multimodal rotary positions [3, R, L], a prompt's derived by transformers from its
        ids and grid."""
        import torch

        from geoagent_rl.policy.rows import row_positions

        image_token = network.config.image_token_id

        def of_prompt(ids: Tensor, image: int) -> Tensor:
            if grids is None:
                return torch.arange(len(ids)).expand(3, -1)
            positions: Tensor = network.model.get_rope_index(
                ids.unsqueeze(0),
                mm_token_type_ids=(ids == image_token).long().unsqueeze(0),
                image_grid_thw=grids[image : image + 1],
            )[0][:, 0]
            return positions

        return row_positions(batch, of_prompt)

    def shape(self, config: Mapping[str, Any]) -> Architecture:
        """Take the 7B's value for what is left out of the tower. Older files have the text model's
        values beside the tower's."""
        text = {**config, **config.get("text_config", {})}
        tower = {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "out_hidden_size": text["hidden_size"],
            "patch_size": 14,
        } | config["vision_config"]
        sizes = ("depth", "hidden_size", "intermediate_size", "out_hidden_size", "patch_size")
        return text_shape(
            text,
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            vision=qwen2_5_vision(*(tower[size] for size in sizes)),
        )
