"""The tiny policy: a Qwen2.5-VL of about a million parameters, trained from scratch on rendered
street scenes.

`build` teaches a *base*: to see (captions), to know places (plain answers) and to write the pieces
that chains of thought are made of, never a whole one; the output format is left to SFT. The result
is an ordinary Hugging Face directory that transformers and vLLM load with no special code. May know
nothing of Ray, vLLM or DeepSpeed."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from geoagent_rl.files import directory_at_once
from geoagent_rl.policy.prompt import QUESTION, TINY_SYSTEM
from geoagent_rl.tiny import scene_draw, scene_objects, scene_text, scene_world, scenes
from geoagent_rl.tiny import tokenizer as tiny_tokenizer
from geoagent_rl.tiny.tokenizer import IM_END, IMAGE_PAD, VIDEO_PAD, VISION_END, VISION_START
from geoagent_rl.types import InfraError

BUILD_TIMEOUT_S = 1800.0  # for another process that is training the same base: minutes
CAPTION_QUESTION = "What can be seen in this photograph?"
PIECE_QUESTION = "Write a part of the report on this photograph."
PROMPT_TEXTS = (TINY_SYSTEM, QUESTION, CAPTION_QUESTION, PIECE_QUESTION)


@dataclass(frozen=True)
class Recipe:
    """Size and base training of the tiny policy. The defaults are what the demo uses."""

    hidden: int = 128
    layers: int = 3
    heads: int = 2
    kv_heads: int = 1
    mlp: int = 384
    vision_depth: int = 2
    vision_width: int = 96
    vision_heads: int = 3
    init_std: float = 0.05
    image_pixels: int = 112 * 112  # 16 image tokens
    scenes: int = 4000
    steps: int = 240
    batch: int = 64
    lr: float = 3e-3
    captions: float = (
        0.5  # shares of the lessons: caption and place, place alone, the rest pieces of reports
    )
    answers: float = 0.1
    habits: scene_text.Annotator = scene_text.Annotator(misread=0.05, hedge=(0.01, 0.02), short=0.5)


def hedge_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Return the ids of the phrases that leave a level open: what the un-hedging control bans."""
    symbols = tiny_tokenizer.byte_symbols()
    tokens = ["".join(symbols[byte] for byte in phrase.encode()) for phrase in scene_text.hedges()]
    return tuple(tokenizer.convert_tokens_to_ids(tokens))


def model_config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Return the architecture's configuration for this vocabulary."""
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    tokens = (VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)
    special = dict(zip(names, tokenizer.convert_tokens_to_ids(list(tokens)), strict=True))
    ends = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    eighth = recipe.hidden // recipe.heads // 16
    text = {
        "vocab_size": -(-len(tokenizer) // 32) * 32,
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.mlp,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.kv_heads,
        "max_position_embeddings": 4096,
        "initializer_range": recipe.init_std,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [
                2 * eighth,
                3 * eighth,
                3 * eighth,
            ],  # time, height, width: as in Qwen2.5-VL
        },
        "tie_word_embeddings": True,
        **ends,
    }
    vision = {
        "depth": recipe.vision_depth,
        "hidden_size": recipe.vision_width,
        "intermediate_size": 2 * recipe.vision_width,
        "num_heads": recipe.vision_heads,
        "out_hidden_size": recipe.hidden,
        "fullatt_block_indexes": list(range(recipe.vision_depth)),
        "initializer_range": recipe.init_std,
    }
    return Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **special
    )


def lesson(scene: scene_world.Scene, recipe: Recipe, rng: np.random.Generator) -> tuple[str, str]:
    """Return one base lesson on a scene: (question, answer)."""
    draw = rng.random()
    if draw < recipe.captions:
        return CAPTION_QUESTION, scene_text.caption(scene, rng)
    if draw < recipe.captions + recipe.answers:
        return QUESTION, scene_text.LEVEL_JOIN.join(scene.place.levels)
    stages = scene_text.read_scene(scene, recipe.habits, rng)
    parts = scene_text.write(stages, rng, recipe.habits.short)
    pick = rng.permutation(4)[: 1 + int(rng.random() < 0.6)]
    return PIECE_QUESTION, "".join(parts[k] for k in pick)


def phrases() -> tuple[str, ...]:
    """Return all phrases that are single tokens of the tiny policy."""
    return (*PROMPT_TEXTS, *scene_text.phrases())


def chat(question: str) -> list[dict[str, Any]]:
    """Return the messages that ask `question` about one image."""
    content: list[dict[str, str]] = [{"type": "image"}, {"type": "text", "text": question}]
    return [{"role": "system", "content": TINY_SYSTEM}, {"role": "user", "content": content}]


def train_base(
    recipe: Recipe,
    seed: int,
    processor: Qwen2_5_VLProcessor,
    progress: Callable[[int, int, float], None] | None = None,
) -> Qwen2_5_VLForConditionalGeneration:
    """Train a base from scratch and return the model. `progress(step, steps, loss)` is called after
    every step.
    """
    torch.manual_seed(seed)
    tokenizer = processor.tokenizer
    model = Qwen2_5_VLForConditionalGeneration(model_config(recipe, tokenizer)).float().train()
    text = model.config.text_config
    model.generation_config.update(
        bos_token_id=None, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
    rng = np.random.default_rng([seed, 77])
    pool = [scene_world.sample_scene(rng, scene_world.places()) for _ in range(recipe.scenes)]
    images = [scene_draw.draw(scene) for scene in pool]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, total_steps=recipe.steps, pct_start=0.15
    )
    for step in range(recipe.steps):
        picks = rng.integers(len(pool), size=recipe.batch)
        pairs = [lesson(pool[k], recipe, rng) for k in picks]
        inputs, labels = collate(processor, [images[k] for k in picks], pairs)
        loss = answer_loss(model, inputs, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, recipe.steps, loss.item())
    return model.eval()


def collate(
    processor: Qwen2_5_VLProcessor, images: list[Image.Image], pairs: list[tuple[str, str]]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return model inputs (right-padded) and labels (answer and end token; -100 elsewhere) for
    (question, answer) pairs."""
    heads = [
        processor.apply_chat_template(chat(q), add_generation_prompt=True, tokenize=False)
        for q, _ in pairs
    ]
    texts = [head + answer + IM_END for head, (_, answer) in zip(heads, pairs, strict=True)]
    inputs = processor(
        text=texts, images=images, return_tensors="pt", padding=True, padding_side="right"
    )
    labels = inputs["input_ids"].clone()
    labels[inputs["attention_mask"] == 0] = -100
    start = processor.tokenizer.convert_tokens_to_ids("assistantĊ")
    for row in labels:
        row[: int((row == start).nonzero()[0]) + 1] = -100
    return dict(inputs), labels


def answer_loss(
    model: Qwen2_5_VLForConditionalGeneration,
    inputs: dict[str, torch.Tensor],
    labels: torch.Tensor,
) -> torch.Tensor:
    """Return the mean cross-entropy per answer token."""
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def fingerprint(recipe: Recipe, seed: int) -> str:
    """Return a hash of everything that the trained weights depend on: recipe, seed, this source and
    the libraries.
    """
    parts = [
        json.dumps(asdict(recipe), sort_keys=True),
        str(seed),
        torch.__version__,
        np.__version__,
        *PROMPT_TEXTS,
    ]
    modules = (
        scene_world,
        scene_draw,
        scene_objects,
        scene_text,
        tiny_tokenizer,
        sys.modules[__name__],
    )
    parts += [inspect.getsource(module) for module in modules]
    parts.append(scenes.places_table())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def build(
    cache_dir: str | Path,
    seed: int = 0,
    recipe: Recipe | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Return the directory of the trained tiny base (model, tokenizer, processor); train it unless
    the cache has it.

    Atomic: a directory under its final name is complete, and of several builders one trains and the
    others wait. The same seed gives the same bytes on the same machine. Raises InfraError when that
    other builder does not end."""
    recipe = recipe or Recipe()
    final = Path(cache_dir) / f"tiny-{seed}-{fingerprint(recipe, seed)}"
    if final.exists():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{final}.lock", timeout=BUILD_TIMEOUT_S):
            if not final.exists():
                _train_into(final, recipe, seed, progress)
    except Timeout:
        raise InfraError(
            f"another process has been training {final} for {BUILD_TIMEOUT_S:g} s"
        ) from None
    return final


def _train_into(
    final: Path, recipe: Recipe, seed: int, progress: Callable[[int, int, float], None] | None
) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # reproducible sums; two threads were measured not to be faster
        with directory_at_once(final) as part:
            processor = tiny_tokenizer.save_processor(part, phrases(), recipe.image_pixels)
            train_base(recipe, seed, processor, progress).save_pretrained(part)
    finally:
        torch.set_num_threads(threads)
