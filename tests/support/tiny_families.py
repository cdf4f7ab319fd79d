"""A random tiny checkpoint of each family of policies, for tests that need the architecture but no
skill. (Qwen2.5-VL: tiny_random.py.)"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.support import tiny_random

HIDDEN, SCALE = 128, 0.1
TEXT = {
    "hidden_size": HIDDEN,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "initializer_range": SCALE,
    "tie_word_embeddings": True,
}
INTERNVL_MARKS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
GEMMA_MARKS = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}
CHATML = tiny_random.TEMPLATE
THINKING_CHATML = CHATML.replace(
    "assistant\n",
    "assistant\n<think>\n{% if enable_thinking is false %}\n</think>\n\n{% endif %}",
)
INTERNVL_CHATML = CHATML.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n")
GEMMA_CHAT = (  # the system's text begins the first turn
    "{{ bos_token }}{% set told = messages[0].content[0].text %}"
    "{% for message in messages[1:] %}<start_of_turn>{{ message.role }}\n"
    "{% if loop.first %}{{ told }}\n\n{% endif %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<start_of_image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def byte_tokenizer(
    template: str, words: tuple[str, ...] = (), **marks: Any
) -> PreTrainedTokenizerFast:
    """One token per byte, `words` and the special tokens `marks`."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_tokens([AddedToken(word, normalized=False) for word in words])
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, **marks)


def ends(tokens: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
    }


def qwen3_vl() -> tuple[Any, Any]:
    """Returns (configuration, processor)."""
    tokens = tiny_random.tokenizer()
    ids = {name: tokens.convert_tokens_to_ids(name) for name in tiny_random.SPECIAL}
    rope = {
        "rope_type": "default",
        "rope_theta": 1e4,
        "mrope_section": [12, 10, 10],
        "mrope_interleaved": True,
    }
    vision = {
        "depth": 3,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "initializer_range": SCALE,
    }
    text = TEXT | {"vocab_size": len(tokens), "rope_parameters": rope} | ends(tokens)
    config = transformers.Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    size = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
    processor = transformers.Qwen3VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(size=size, patch_size=16),
        tokenizer=tokens,
        video_processor=transformers.Qwen3VLVideoProcessor(),
        chat_template=CHATML,
    )
    return config, processor


def internvl(text_type: str = "qwen3") -> tuple[Any, Any]:
    """Returns (configuration, processor); a view of 56 pixels is 4 tokens."""
    tokens = byte_tokenizer(
        INTERNVL_CHATML,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=INTERNVL_MARKS | {"turn_start": "<|im_start|>"},
    )
    text = TEXT | {"model_type": text_type, "vocab_size": len(tokens)} | ends(tokens)
    vision = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 2,
        "attention_bias": True,
        "image_size": [56, 56],
        "patch_size": [14, 14],
        "initializer_range": SCALE,
    }
    config = transformers.InternVLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=True,
    )
    size = {"height": 56, "width": 56}
    processor = transformers.InternVLProcessor(
        image_processor=transformers.GotOcr2ImageProcessor(
            size=size, crop_to_patches=True, max_patches=3
        ),
        tokenizer=tokens,
        video_processor=transformers.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=INTERNVL_CHATML,
    )
    return config, processor


def gemma3() -> tuple[Any, Any]:
    """Returns (configuration, processor); a picture is 4 tokens, a window 12."""
    tokens = byte_tokenizer(
        GEMMA_CHAT,
        words=("\n", "\n\n", "\n\n\n", "\n\n\n\n"),
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=GEMMA_MARKS
        | {"turn_start": "<start_of_turn>", "turn_end": "<end_of_turn>"},
    )
    text = (
        TEXT
        | {"vocab_size": len(tokens), "sliding_window": 12, "query_pre_attn_scalar": 64}
        | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}
        | ends(tokens)
    )
    vision = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "vision_use_head": False,
    }
    ids = {name: tokens.convert_tokens_to_ids(token) for name, token in GEMMA_MARKS.items()}
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_id=ids["image_token"],
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
        tie_word_embeddings=True,
    )
    processor = transformers.Gemma3Processor(
        image_processor=transformers.Gemma3ImageProcessor(size={"height": 56, "width": 56}),
        tokenizer=tokens,
        image_seq_length=4,
        chat_template=GEMMA_CHAT,
    )
    return config, processor


def qwen3_5() -> tuple[Any, Any]:
    """Returns (configuration, processor): three layers with a delta rule, one with attention."""
    like, processor = qwen3_vl()
    processor.chat_template = THINKING_CHATML
    rope = {
        "rope_type": "default",
        "rope_theta": 1e4,
        "mrope_section": [3, 3, 2],
        "mrope_interleaved": True,
        "partial_rotary_factor": 0.25,
    }
    rule = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
    }
    vocabulary = {"vocab_size": like.text_config.vocab_size} | ends(processor.tokenizer)
    tower = like.vision_config.to_dict()
    kept = ("depth", "hidden_size", "intermediate_size", "num_heads", "out_hidden_size")
    config = transformers.Qwen3_5Config(
        text_config=TEXT | rule | vocabulary | {"num_hidden_layers": 4, "rope_parameters": rope},
        vision_config={name: tower[name] for name in (*kept, "num_position_embeddings")},
        image_token_id=like.image_token_id,
        video_token_id=like.video_token_id,
        vision_start_token_id=like.vision_start_token_id,
        vision_end_token_id=like.vision_end_token_id,
        tie_word_embeddings=True,
    )
    return config, processor


PARTS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen3_vl": qwen3_vl,
    "internvl": internvl,
    "gemma3": gemma3,
    "qwen3_5": qwen3_5,
}


def build(model_type: str, directory: Path, seed: int = 0) -> str:
    """Writes model, tokenizer and processor of a family; returns the directory."""
    if model_type == "qwen2_5_vl":
        return tiny_random.build(directory, seed, hidden=64)
    return save(*PARTS[model_type](), directory, seed)


def save(config: Any, processor: Any, directory: Path, seed: int = 0) -> str:
    """Writes a random network of `config` and the processor; returns the directory."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = transformers.AutoModelForImageTextToText.from_config(config)
        for parameter in network.parameters():  # some families begin with zeros or with ones
            fan = parameter.shape[-1] if parameter.ndim > 1 else 0
            parameter.data += torch.randn_like(parameter) * (1 / math.sqrt(fan) if fan else SCALE)
    tokens = processor.tokenizer
    turn = tokens.convert_tokens_to_ids("<end_of_turn>")
    found = [tokens.eos_token_id, *([turn] if turn is not None else [])]
    network.generation_config.eos_token_id = found
    network.generation_config.pad_token_id = tokens.pad_token_id
    network.save_pretrained(directory)
    processor.save_pretrained(directory)
    return str(directory)
