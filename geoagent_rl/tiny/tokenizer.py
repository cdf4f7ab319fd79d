"""The tiny policy's tokenizer: one token for each phrase of the scene texts, single bytes for
everything else.

Byte-level BPE without merges: text is first split at known phrases (longest first), every piece
that is a phrase is one token, every other piece falls back to its UTF-8 bytes. So any text
whatsoever encodes and decodes exactly, and a chain of thought of 900 characters takes 70 to 90
tokens. Special tokens, chat template and their behaviour are those of Qwen2.5-VL. May know nothing
of scenes beyond the phrases it is given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

PAD, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SPECIAL_TOKENS = (PAD, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)
TEMPLATE_WORDS = ("system\n", "user\n", "assistant\n")  # role headings, one token each
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_symbols() -> dict[int, str]:
    """Return the printable character that stands for each byte in byte-level BPE (GPT-2's
    table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return {byte: chr(byte if byte in printable else next(spare)) for byte in range(256)}


def make_tokenizer(phrases: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer for these phrases. Ids depend only on the phrases and their order
    (special, bytes, phrases).
    """
    symbols = byte_symbols()
    vocab = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    for symbol in symbols.values():
        vocab[symbol] = len(vocab)
    known = [text for text in dict.fromkeys((*TEMPLATE_WORDS, *phrases)) if len(text.encode()) > 1]
    for text in known:
        vocab.setdefault("".join(symbols[byte] for byte in text.encode()), len(vocab))
    pattern = "|".join(
        re.escape(text) for text in sorted(known, key=lambda text: (-len(text), text))
    )
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=IM_END,
        pad_token=PAD,
        additional_special_tokens=list(SPECIAL_TOKENS),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
        chat_template=CHAT_TEMPLATE,
    )
    fast.image_token, fast.video_token = IMAGE_PAD, VIDEO_PAD
    return fast


def make_processor(tokenizer: PreTrainedTokenizerFast, max_pixels: int) -> Qwen2_5_VLProcessor:
    """Return a Qwen2.5-VL processor whose images have at most `max_pixels` pixels (patches of 14,
    merged 2 x 2).
    """
    size = {"shortest_edge": 28 * 28, "longest_edge": max_pixels}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size),
        chat_template=CHAT_TEMPLATE,
    )


def save_processor(directory: Path, phrases: Iterable[str], max_pixels: int) -> Qwen2_5_VLProcessor:
    """Write tokenizer, chat template and image processor files; return the processor."""
    processor = make_processor(make_tokenizer(phrases), max_pixels)
    processor.save_pretrained(directory)
    return processor
