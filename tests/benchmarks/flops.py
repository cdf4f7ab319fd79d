"""Floating-point operations of a learner's group by formula (2 per multiply-add), checked against
torch's counter.

Counted: linear layers, attention products, LoRA, the vocabulary's logits. Not counted: norms,
activations, softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Shape:
    """The sizes that work depends on."""

    hidden: int
    layers: int
    key_values: int  # width of keys, and of values
    mlp: int
    vocabulary: int
    rank: int  # of the adapter
    vision_width: int
    vision_depth: int
    vision_mlp: int
    vision_full: (
        int  # layers whose attention sees the whole picture; the others see windows of 64 patches
    )
    patch: int = 1176  # numbers per patch: 3 channels, 2 times, 14 x 14

    @property
    def balance(self) -> int:
        """As policy.rows.attention_balance."""
        layer = 2 * self.hidden**2 + 2 * self.hidden * self.key_values + 3 * self.hidden * self.mlp
        return layer // (2 * self.hidden)

    def vision(self, image_tokens: int) -> float:
        """One picture, forward. Four patches make an image token."""
        n, d = 4 * image_tokens, self.vision_width
        linear = n * (self.patch * d + self.vision_depth * (4 * d * d + 3 * d * self.vision_mlp))
        attention = (
            2 * n * d * (self.vision_full * n + (self.vision_depth - self.vision_full) * min(64, n))
        )
        merger = image_tokens * (16 * d * d + 4 * d * self.hidden)
        return 2 * (linear + attention + merger)

    def language(self, tokens: int, completion: int, adapter: bool, backward: bool) -> float:
        """One sequence. Backward: of activations and adapter only, the base weights are frozen."""
        h, kv, m = self.hidden, self.key_values, self.mlp
        sizes = [(h, h), (h, kv), (h, kv), (h, h), (h, m), (h, m), (m, h)]
        linear = (
            self.layers * tokens * sum(a * b for a, b in sizes) + completion * h * self.vocabulary
        )
        attention = self.layers * 2 * tokens * tokens * h
        lora = self.layers * tokens * self.rank * sum(a + b for a, b in sizes) if adapter else 0
        return 2 * (linear + 2 * attention + 2 * lora if backward else linear + attention + lora)


SEVEN_B = Shape(3584, 28, 512, 18944, 152064, 64, 1280, 32, 3420, 4)


def shape_of(network, rank: int) -> Shape:
    text, vision = network.config.text_config, network.config.vision_config
    head = text.hidden_size // text.num_attention_heads
    return Shape(
        text.hidden_size,
        text.num_hidden_layers,
        text.num_key_value_heads * head,
        text.intermediate_size,
        text.vocab_size,
        rank,
        vision.hidden_size,
        vision.depth,
        vision.intermediate_size,
        len(vision.fullatt_block_indexes),
    )


def group_flops(
    s: Shape, image_tokens: int, rows: list[tuple[int, list[int]]], looks: int
) -> float:
    """Reference pass, loss pass and backward. rows: (tokens of the prompt, tokens of each
    completion); looks: how often the vision tower runs."""
    work = looks * s.vision(image_tokens)
    for prompt, completions in rows:
        total = sum(completions)
        for adapter, backward in ((False, False), (True, False), (True, True)):
            work += s.language(prompt + total, total, adapter, backward)
    return work


def counted(work: Callable[[], None]) -> float:
    """What torch counts while `work()` runs. Attention must be eager: the counter does not know the
    CPU's fused one.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
