"""What differs between families of vision-language models: everything that the rest must ask.

The defaults are those of most: pictures as square views of one size, plain positions, causal
attention. A family is one file here with one subclass, and one entry in FAMILIES. Imports nothing
heavy at the top: a plan reads shapes. May know transformers' models through their configuration
and modules; nothing of engines, DeepSpeed or Ray."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from geoagent_rl.policy.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from geoagent_rl.grpo.batching import MicroBatch
    from geoagent_rl.policy.rows import Mask


class Family(ABC):
    """A family. Its one instance has no state: networks, processors and configurations are given.

    `network` is transformers' model, `own` its processor, `config` the network's configuration."""

    title: ClassVar[str]
    banned: ClassVar[tuple[str, ...]]  # what no model can replay when it is sampled
    end: ClassVar[str] = "<|im_end|>"  # of a turn
    chat: ClassVar[Mapping[str, Any]] = {}  # further arguments of the chat template
    # under network.model: frozen, without adapters
    vision_modules: ClassVar[tuple[str, ...]] = ("vision_tower", "multi_modal_projector")
    # (of a module, in older checkpoints) beginnings of tensors' names; the tower's is the first
    old_names: ClassVar[tuple[tuple[str, str], ...]] = (
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
    )
    adapted: ClassVar[tuple[str, ...]] = (  # linear layers of the language model
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    causal: ClassVar[bool] = True  # image tokens too
    shares_prompts: ClassVar[bool] = True  # several completions may stand behind one prompt
    adapter_swap: ClassVar[bool] = True  # what an engine holds of an adapter can be checked
    no_cpu_engine: ClassVar[str] = (
        ""  # why vLLM's CPU build does not compute what transformers does
    )
    published: ClassVar[Mapping[str, Architecture]] = {}  # by a part of the checkpoint's name

    # --- prompts and pictures ---------------------------------------------------------------------

    @abstractmethod
    def image_budget(self, own: Any, max_pixels: int) -> dict[str, Any]:
        """Return the keyword arguments that limit the image size, for the processor and for vLLM's
        `mm_processor_kwargs`."""

    def grid(self, own: Any, inputs: Mapping[str, Any]) -> Tensor:
        """Return what a picture was cut into, int64 [1, 3], from what the processor made of it:
        views, rows and columns of tokens of each."""
        import torch

        side = math.isqrt(own.image_seq_length)
        return torch.tensor([[len(inputs["pixel_values"]), side, side]])

    def merge(self, config: Any) -> int:
        """Return how many rows and columns of `grid` make one image token."""
        return 1

    def picture_inputs(
        self, ids: Tensor, pixels: Tensor, grids: Tensor, config: Any
    ) -> dict[str, Any]:
        """Return what transformers' own forward takes of pictures, beside ids [B, L] and mask."""
        return {"pixel_values": pixels}

    # --- the network ------------------------------------------------------------------------------

    @property
    def lora_targets(self) -> str:
        """Return the pattern of the modules' names that adapters are put on."""
        return rf".*language_model.*\.({'|'.join(self.adapted)})"

    @property
    def lora_excluded(self) -> str:
        """Return the pattern of names that none is put on, whatever `lora_targets` says."""
        return rf".*({'|'.join(self.vision_modules)}).*"

    def image_features(self, network: Any, pixels: Tensor, grids: Tensor) -> tuple[Tensor, ...]:
        """Return frozen features of each image, [tokens of the image, W], which `embed` takes.

        pixels: all images' rows or views, on the network's device; grids: [images, 3], on the CPU.
        """
        import torch

        with torch.no_grad():
            views = network.model.get_image_features(pixels).pooler_output
        found = views.split(grids[:, 0].tolist())
        return tuple(image.flatten(0, 1) for image in found)

    def embed(
        self, inputs: Tensor, values: Tensor, batch: MicroBatch
    ) -> tuple[Tensor, dict[str, Any]]:
        """Put features [M, W] of all image tokens in their places among the embeddings [R, L, H].

        Returns the embeddings and what else the language model takes."""
        flat = inputs.flatten(0, 1).index_copy(0, batch.image_places, values)
        return flat.view(inputs.shape), {}

    def position_ids(self, network: Any, batch: MicroBatch, grids: Tensor | None) -> Tensor:
        """Return rotary positions, [R, L] or one for each axis [A, R, L], on the CPU. grids:
        [images, 3]; None: no images. All must be on the CPU."""
        import torch

        from geoagent_rl.policy.rows import row_positions

        if batch.plain:  # counted on in padding: 0 there would read as another sequence
            return torch.arange(batch.input_ids.shape[1]).expand(batch.input_ids.shape)
        return row_positions(batch, lambda ids, _: torch.arange(len(ids)).unsqueeze(0))[0]

    def mask(self, config: Any, batch: MicroBatch, positions: Tensor, dtype: Any) -> Mask:
        """Return the attention mask of the batch, see rows.visible. positions: of its tokens."""
        from geoagent_rl.policy.rows import visible

        return visible(batch, dtype)

    def blocks(self, config: Any, batch: MicroBatch, positions: Tensor) -> Mask:
        """Return `mask` for flex attention, see rows.visible_blocks."""
        from geoagent_rl.policy.rows import visible_blocks

        return visible_blocks(batch)

    # --- plans ------------------------------------------------------------------------------------

    @abstractmethod
    def shape(self, config: Mapping[str, Any]) -> Architecture:
        """Return the sizes that a config.json says. KeyError for a value that is missing."""
