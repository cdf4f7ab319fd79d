"""What the policy is asked: messages, image budget, token ids. The only place that builds prompts.

Engines and learner use the same text and the same budget; the learner trains on the ids that the
engine reports back. What differs between models is the family's (families/). May know nothing of
engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from geoagent_rl.policy.families import family_of
from geoagent_rl.policy.families.family import Family
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

# The text on which an engine proves that it took new weights: its tokens' log-probabilities at
# temperature 1, no bans.
PROBE = "You locate photographs. Where was this photograph taken? Country; Region; Place"


@dataclass(frozen=True, slots=True)
class Processor:
    """A checkpoint's processor: transformers' own (tokenizer, chat template, pictures) and the
    family that says how it is used."""

    own: Any
    family: Family

    @property
    def tokenizer(self) -> Any:
        """Return its tokenizer."""
        return self.own.tokenizer


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as the model takes it. ids have the image token repeated once per image feature.

    pixel_values: float, rows of patches or square views, as the family's processor makes them;
    image_grid_thw: int64 [1, 3], what the picture was cut into (Family.grid)."""

    ids: tuple[int, ...]
    pixel_values: Tensor
    image_grid_thw: Tensor


def load_processor(model: str) -> Processor:
    """Return the processor of a checkpoint, directory or hub name. UserError if it holds none, or
    its family is not supported.
    """
    from transformers import AutoProcessor

    family = family_of(model)
    try:
        return Processor(AutoProcessor.from_pretrained(model), family)
    except OSError as error:
        raise UserError(f"no processor in {model}: {str(error).splitlines()[0]}") from None


def messages(system: str, question: str = QUESTION) -> list[dict[str, Any]]:
    """Return the conversation for one photograph. system: "tiny", "full" or a text."""
    told = SYSTEM_PROMPTS.get(system, system)
    return [
        {"role": "system", "content": [{"type": "text", "text": told}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]},
    ]


def prompt_text(processor: Processor, system: str, question: str = QUESTION) -> str:
    """Return the prompt with one unexpanded image token, ready for the completion.

    vLLM takes it together with a PIL image. UserError where the template opens the answer's
    <think>, as those of "Thinking" checkpoints do.
    """
    asked = messages(system, question)
    options = {"tokenize": False, "add_generation_prompt": True, **processor.family.chat}
    text = str(processor.own.apply_chat_template(asked, **options))
    if text.rstrip().endswith("<think>"):
        raise UserError(
            "policy.model: its chat template opens <think> itself, as answers do here; take the Instruct checkpoint"
        )
    return text


def image_budget(processor: Processor, max_pixels: int) -> dict[str, Any]:
    """Return keyword arguments that limit the image size, for the processor and for vLLM's
    `mm_processor_kwargs`."""
    return processor.family.image_budget(processor.own, max_pixels)


def encode(
    processor: Processor,
    image: Image.Image,
    system: str,
    max_pixels: int,
    question: str = QUESTION,
) -> EncodedPrompt:
    """Return token ids and pixels of one prompt. image: PIL RGB; it is resized to at most about
    `max_pixels`.

    UserError for an image more than 200 times as long as wide, which Qwen's models cannot take.
    """
    if max(image.size) > 200 * min(image.size):
        size = f"{image.width} x {image.height} pixels"
        raise UserError(
            f"an image of {size} is more than 200 times as long as wide; crop it or leave it out"
        )
    inputs = processor.own(
        text=[prompt_text(processor, system, question)],
        images=[image],
        return_tensors="pt",
        add_special_tokens=False,  # the template has written them
        **image_budget(processor, max_pixels),
    )
    ids = tuple(inputs["input_ids"][0].tolist())
    return EncodedPrompt(ids, inputs["pixel_values"], processor.family.grid(processor.own, inputs))


def completion_ids(processor: Processor, text: str, uid: str = "") -> tuple[int, ...]:
    """Return the ids of a full assistant turn, the end token included.

    Raises UserError, naming `uid`, for a text with special tokens of the model (<|image_pad|>)."""
    tokenizer = processor.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = {*tokenizer.all_special_ids, *banned_ids(processor), end_id(processor)}
    if found := special & set(ids):
        token = tokenizer.convert_ids_to_tokens(min(found))
        raise UserError(f"{uid}: the text holds {token}, a special token of the model; remove it")
    return (*ids, end_id(processor))


def end_id(processor: Processor) -> int:
    """Return the id of the token that ends a turn."""
    found: int = processor.tokenizer.convert_tokens_to_ids(processor.family.end)
    return found


def banned_ids(processor: Processor) -> tuple[int, ...]:
    """Return ids that must never be sampled, and that are masked wherever log-probabilities are
    compared: a sequence with one of them no model can replay (image features and tokens differ)."""
    vocabulary = processor.tokenizer.get_vocab()
    banned = processor.family.banned
    return tuple(sorted(vocabulary[token] for token in banned if token in vocabulary))


def probe_ids(tokenizer: Any) -> tuple[int, ...]:
    """Return the ids of the probe text; log-probabilities are of ids[1:] given what precedes
    each."""
    return tuple(tokenizer(PROBE, add_special_tokens=False)["input_ids"])


def check_image_tokens(image: str, tokens: int, grid: Tensor, merge: int) -> None:
    """Raise ValueError unless a prompt's image tokens are as many as the features of its image,
    grid [3] (see Family.grid and Family.merge).
    """
    patches = int(grid.prod()) // merge**2
    if tokens != patches:
        raise ValueError(
            f"{image}: {tokens} image tokens in the prompt but {patches} image features; was it truncated?"
        )
