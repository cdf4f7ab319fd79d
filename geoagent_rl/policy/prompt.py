"""What the policy is asked: messages, image budget, token ids. The only place that builds prompts.

Engines and learner use the same text and the same budget; the learner trains on the ids that the
engine reports back. May know nothing of engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from geoagent_rl.types import UserError

if TYPE_CHECKING:
    from torch import Tensor  # commands that need only texts start without it

QUESTION = "Where was this photograph taken?"

TINY_SYSTEM = "You locate photographs."

FULL_SYSTEM = """\
You work out where photographs were taken. Study everything that can betray a place: script and language on signs, \
road markings, number plates, driving side, poles, architecture, vegetation, soil, terrain, light, clothing, brands.

First think, inside <think></think>, as one JSON object of this shape and with these keys:
{"ChainOfThought": {"CountryIdentification": STAGE, "RegionalGuess": STAGE, "PreciseLocalization": STAGE}}
where STAGE is {"Clues": [what you see, each a short text], "Reasoning": "how these clues lead to the conclusion", \
"Conclusion": "one name", "Uncertainty": "Low" or "Medium" or "High"}.
Each stage builds on the ones before it: first the country, then the state, province or region, then the city, town or \
landmark. Let the reasoning carry the conclusion: a reader who has only your clues and your reasoning should arrive at \
the same name. Always commit to your best guess.

Then answer, on the three levels, separated by semicolons:
<answer>Country; Region; Place</answer>"""

SYSTEM_PROMPTS = {"tiny": TINY_SYSTEM, "full": FULL_SYSTEM}

# A policy that samples one of these makes a sequence that no model can replay (image features and
# tokens differ).
BANNED_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# The text on which an engine proves that it took new weights: its tokens' log-probabilities at
# temperature 1, no bans.
PROBE = "You locate photographs. Where was this photograph taken? Country; Region; Place"


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as the model takes it. ids have the image token repeated once per merged patch.

    pixel_values: float [rows, channels * temporal_patch * patch * patch]; image_grid_thw: int64 [1,
    3] in patches, with rows = prod(grid)."""

    ids: tuple[int, ...]
    pixel_values: Tensor
    image_grid_thw: Tensor


def messages(system: str, question: str = QUESTION) -> list[dict[str, Any]]:
    """Return the conversation for one photograph. system: "tiny", "full" or a text."""
    told = SYSTEM_PROMPTS.get(system, system)
    return [
        {"role": "system", "content": [{"type": "text", "text": told}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]},
    ]


def prompt_text(processor: Any, system: str, question: str = QUESTION) -> str:
    """Return the prompt with one unexpanded image token, ready for the completion.

    vLLM takes it together with a PIL image.
    """
    return str(
        processor.apply_chat_template(
            messages(system, question), tokenize=False, add_generation_prompt=True
        )
    )


def image_budget(processor: Any, max_pixels: int) -> dict[str, dict[str, int]]:
    """Keyword arguments that limit the image size, for the processor and for vLLM's
    `mm_processor_kwargs`.

    A checkpoint's own, smaller limit stays: the tiny policy knows only images of its training size.
    """
    size = dict(processor.image_processor.size)  # both "edges" are areas in pixels
    largest = min(max_pixels, size["longest_edge"])
    return {"size": {"shortest_edge": min(size["shortest_edge"], largest), "longest_edge": largest}}


def encode(processor: Any, image: Image.Image, system: str, max_pixels: int) -> EncodedPrompt:
    """Token ids and pixels of one prompt. image: PIL RGB; it is resized to at most about
    `max_pixels`.

    UserError for an image more than 200 times as long as wide, which Qwen2.5-VL cannot take.
    """
    if max(image.size) > 200 * min(image.size):
        size = f"{image.width} x {image.height} pixels"
        raise UserError(
            f"an image of {size} is more than 200 times as long as wide; crop it or leave it out"
        )
    inputs = processor(
        text=[prompt_text(processor, system)],
        images=[image],
        return_tensors="pt",
        **image_budget(processor, max_pixels),
    )
    return EncodedPrompt(
        tuple(inputs["input_ids"][0].tolist()), inputs["pixel_values"], inputs["image_grid_thw"]
    )


def completion_ids(processor: Any, text: str, uid: str = "") -> tuple[int, ...]:
    """Ids of a full assistant turn, the end token (<|im_end|>) included.

    Raises UserError, naming `uid`, for a text with special tokens of the model (<|image_pad|>)."""
    tokenizer = processor.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(banned_ids(tokenizer))
    if found := special & set(ids):
        token = tokenizer.convert_ids_to_tokens(min(found))
        raise UserError(f"{uid}: the text holds {token}, a special token of the model; remove it")
    return (*ids, tokenizer.eos_token_id)


def banned_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids that must never be sampled, and that are masked wherever log-probabilities are
    compared.
    """
    vocabulary = tokenizer.get_vocab()
    return tuple(sorted(vocabulary[token] for token in BANNED_TOKENS if token in vocabulary))


def probe_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids of the probe text; log-probabilities are of ids[1:] given what precedes each."""
    return tuple(tokenizer(PROBE, add_special_tokens=False)["input_ids"])


def check_image_tokens(image: str, tokens: int, grid: Tensor, merge: int) -> None:
    """Raise ValueError unless a prompt's image tokens are as many as the merged patches of its
    image, grid [3].
    """
    patches = int(grid.prod()) // merge**2
    if tokens != patches:
        raise ValueError(
            f"{image}: {tokens} image tokens in the prompt but {patches} image features; was it truncated?"
        )
