"""Qwen3-VL: as Qwen2.5-VL, but patches of 16 and deepstack features, which the tower gives beside
its last ones and the first layers of the language model add at the image tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geoagent_rl.policy.architecture import Architecture, Vision, qwen3, text_shape
from geoagent_rl.policy.families.qwen2_5_vl import Qwen25VL

if TYPE_CHECKING:
    from torch import Tensor

    from geoagent_rl.grpo.batching import MicroBatch

TOWER = {  # of the 8B and larger
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "out_hidden_size": 3584,
    "num_position_embeddings": 2304,
    "patch_size": 16,
}


def qwen3_vision(
    depth: int, hidden: int, mlp: int, out: int, places: int, levels: int, patch: int = 16
) -> Vision:
    """Return the shape of a tower with LayerNorm, a table of places and mergers for deepstack."""
    h, merged, temporal = hidden, 4 * hidden, 2
    block = 4 * h + (3 * h * h + 3 * h) + (h * h + h) + (2 * h * mlp + mlp + h)
    merger = (merged * merged + merged) + (merged * out + out)
    mergers = (1 + levels) * merger + 2 * h + levels * 2 * merged
    embeddings = 3 * temporal * patch**2 * h + h + places * h
    parameters = embeddings + depth * block + mergers
    return Vision(depth, hidden, mlp, out, parameters, patch, temporal)


def published(hidden: int, layers: int, heads: int, mlp: int, tied: bool = False) -> Architecture:
    """Return the shape of a published Qwen3-VL."""
    tower = (24, 1024, 4096) if tied else (27, 1152, 4304)  # 2B and 4B have the smaller one
    vision = qwen3_vision(*tower, hidden, places=2304, levels=3)
    return qwen3(hidden, layers, heads, mlp, tied, vision)


class Qwen3VL(Qwen25VL):
    """See the module."""

    title = "Qwen3-VL"
    old_names = ()
    published = {
        "Qwen3-VL-2B": published(2048, 28, 16, 6144, tied=True),
        "Qwen3-VL-4B": published(2560, 36, 32, 9728, tied=True),
        "Qwen3-VL-8B": published(4096, 36, 32, 12288),
        "Qwen3-VL-32B": published(5120, 64, 64, 25600),
    }

    def image_features(self, network: Any, pixels: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
        """Return [tokens, (1 + levels) * H] of each image: the last features, then each level's."""
        import torch

        with torch.no_grad():
            found = network.model.get_image_features(pixels, grids.to(pixels.device))
        levels = [found.pooler_output, *getattr(found, "deepstack_features", ())]
        return tuple(torch.cat(parts, -1) for parts in zip(*levels, strict=True))

    def embed(
        self, inputs: Tensor, values: Tensor, batch: MicroBatch
    ) -> tuple[Tensor, dict[str, Any]]:
        """Hand the levels on to the layers that add them."""
        import torch

        last, *levels = values.split(inputs.shape[-1], -1)
        inputs, more = super().embed(inputs, last, batch)
        if not levels:
            return inputs, more
        shown = torch.zeros(batch.input_ids.numel(), dtype=torch.bool, device=inputs.device)
        shown = shown.index_fill(0, batch.image_places, True).view(batch.input_ids.shape)
        return inputs, {"visual_pos_masks": shown, "deepstack_visual_embeds": levels}

    def shape(self, config: Mapping[str, Any]) -> Architecture:
        """Take the 8B's tower for what is left out."""
        tower = config["vision_config"]
        vision = tower_shape(tower, len(tower.get("deepstack_visual_indexes", (8, 16, 24))))
        tied = bool(config.get("tie_word_embeddings", False))
        return text_shape(config["text_config"], tied=tied, vision=vision)


def tower_shape(tower: Mapping[str, Any], levels: int) -> Vision:
    """Return the shape of a vision_config with so many levels of deepstack."""
    depth, hidden, mlp, out, places, patch = (tower.get(n, value) for n, value in TOWER.items())
    return qwen3_vision(depth, hidden, mlp, out, places, levels, patch)
