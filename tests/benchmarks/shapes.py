"""Models of chosen shapes with random weights, for benchmarks: speed does not depend on what they
know.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from geoagent_rl.tiny import policy as tiny
from geoagent_rl.tiny import tokenizer as tiny_tokenizer


def demo_policy(
    directory: Path, recipe: tiny.Recipe | None = None, full_attention: list[int] | None = None
) -> str:
    """The demo's tiny policy (tokenizer, processor, architecture; another recipe changes sizes),
    untrained.

    full_attention: the vision layers that see the whole picture, where not all.
    """
    recipe = recipe or tiny.Recipe()
    directory.mkdir(parents=True, exist_ok=True)
    processor = tiny_tokenizer.save_processor(directory, tiny.phrases(), recipe.image_pixels)
    torch.manual_seed(0)
    config = tiny.model_config(recipe, processor.tokenizer)
    if full_attention is not None:
        config.vision_config.fullatt_block_indexes = full_attention
    model = Qwen2_5_VLForConditionalGeneration(config)
    text = model.config.text_config
    model.generation_config.update(
        bos_token_id=None, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
    model.save_pretrained(directory)
    return str(directory)
