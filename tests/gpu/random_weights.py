"""Qwen2.5-VL of a published shape with random weights: speed and memory do not depend on skill.

Pure but for files; knows the shapes' table and the project's tokenizer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from geoagent_rl.config import Config
from geoagent_rl.policy.architecture import Architecture
from geoagent_rl.policy.prompt import FULL_SYSTEM, PROBE, TINY_SYSTEM
from geoagent_rl.tiny.tokenizer import (
    IMAGE_PAD,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
    save_processor,
)

WEIGHT_SCALE = 0.9  # standard deviation of weights times the root of the width: 0.02 for the 3B
PEAK = 0.9  # of random logits' spread; at 1 sampling at the run's temperature "freezes"
MARKS = {
    "image_token_id": IMAGE_PAD,
    "video_token_id": VIDEO_PAD,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}


def network_config(shape: Architecture, marks: dict[str, int], **text: Any) -> Qwen2_5_VLConfig:
    """Return the configuration of `shape`. marks: ids of MARKS; text: of its text_config."""
    vision = shape.vision
    assert vision is not None
    eighth = shape.head_dim // 16
    language = {
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": shape.tied,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [2 * eighth, 3 * eighth, 3 * eighth],
        },
    }
    tower = {
        "depth": vision.depth,
        "hidden_size": vision.hidden,
        "intermediate_size": vision.mlp,
        "out_hidden_size": vision.out,
        "num_heads": vision.hidden // (80 if vision.hidden % 80 == 0 else 32),
        "fullatt_block_indexes": list(range(7, vision.depth, 8)) or [vision.depth - 1],
    }
    return Qwen2_5_VLConfig(
        text_config=language | text,
        vision_config=tower,
        tie_word_embeddings=shape.tied,
        **marks,
    )


def peaked_norm(vocab: int, temperature: float) -> float:
    """Return the last norm's weight with which random logits are peaked: it acts as a larger head
    would, tied or not."""
    return PEAK * temperature * math.sqrt(2 * math.log(vocab)) / WEIGHT_SCALE


def save_checkpoint(out: Path, shape: Architecture, config: Config, device: str) -> None:
    """Write random weights of `shape` and the project's processor, its prompts' words as tokens.

    The logits are peaked (peaked_norm), or every token would be as likely as any other."""
    words = [f" {word}" for word in f"{FULL_SYSTEM} {TINY_SYSTEM} {PROBE}".split()]
    tokenizer = save_processor(out, words, config.policy.max_pixels).tokenizer
    ends = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vocab = max(shape.vocab, -(-len(tokenizer) // 32) * 32)
    marks = {name: tokenizer.convert_tokens_to_ids(token) for name, token in MARKS.items()}
    spread = WEIGHT_SCALE / math.sqrt(shape.hidden)
    made = network_config(shape, marks, vocab_size=vocab, initializer_range=spread, **ends)
    torch.manual_seed(config.run.seed)
    with torch.device(device):
        network = Qwen2_5_VLForConditionalGeneration._from_config(
            made, dtype=getattr(torch, config.policy.dtype)
        )
    scale = peaked_norm(vocab, config.rollout.temperature)
    network.model.language_model.norm.weight.data.fill_(scale)
    network.generation_config.update(**ends)
    network.save_pretrained(out, max_shard_size="40GB")
    if device == "cuda":
        del network
        torch.cuda.empty_cache()
