"""The tiny policy's tokenizer: exact for any text, one token a phrase, nothing in SFT that the base
never saw.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoagent_rl.policy import prompt
from geoagent_rl.policy.families import FAMILIES
from geoagent_rl.tiny import policy as tiny
from geoagent_rl.tiny import scenes
from geoagent_rl.tiny.scene_text import cot
from geoagent_rl.tiny.scene_world import places, sample_scene
from geoagent_rl.tiny.tokenizer import SPECIAL_TOKENS, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(tiny.phrases())


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_every_chain_of_thought_survives_and_is_short(tokenizer):
    for index in range(150):
        scene, rng = scenes.scene_at("train", 1, index)
        text = cot(scene, scenes.ANNOTATORS, rng)
        encoded = ids(tokenizer, text)
        assert tokenizer.decode(encoded) == text
        assert 40 <= len(encoded) <= 80


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_survives(tokenizer, text):
    assert tokenizer.decode(ids(tokenizer, text)) == text


@pytest.mark.parametrize(
    "text",
    ["日本; 東京", "naïve \x00 \r\n\t  two", "👍🏽", "New  York in  Japan", "unknownunknown"],
)
def test_awkward_texts_survive(tokenizer, text):
    assert tokenizer.decode(ids(tokenizer, text)) == text


def test_names_are_one_token_wherever_they_stand(tokenizer):
    for place in places():
        for name in place.levels:
            (only,) = ids(tokenizer, name)
            assert only in ids(tokenizer, f"I think of {name}; or not") or len(name) < 3


def test_every_token_of_sft_occurs_in_the_base_lessons(tokenizer):
    recipe, rng = tiny.Recipe(), np.random.default_rng(0)
    known = set()
    for _ in range(3000):
        known.update(ids(tokenizer, tiny.lesson(sample_scene(rng, places()), recipe, rng)[1]))
    wanted = set()
    for index in range(200):
        scene, texts = scenes.scene_at("train", 0, index)
        wanted.update(ids(tokenizer, cot(scene, scenes.ANNOTATORS, texts)))
    assert not tokenizer.convert_ids_to_tokens(sorted(wanted - known))


def test_ids_do_not_depend_on_repeated_phrases(tokenizer):
    again = make_tokenizer((*tiny.phrases(), *tiny.phrases()))
    assert again.get_vocab() == tokenizer.get_vocab()


def test_prompt_is_qwens_and_short(tokenizer):
    text = tokenizer.apply_chat_template(
        prompt.messages("tiny"), tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>system\nYou locate photographs.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|>"
        "<|vision_end|>Where was this photograph taken?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text == tokenizer.apply_chat_template(
        tiny.chat(prompt.QUESTION), tokenize=False, add_generation_prompt=True
    )
    assert len(ids(tokenizer, text)) < 20


def test_special_tokens_are_single_and_the_vision_ones_banned(tokenizer):
    assert [ids(tokenizer, token) for token in SPECIAL_TOKENS] == [
        [k] for k in range(len(SPECIAL_TOKENS))
    ]
    vision = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    processor = prompt.Processor(SimpleNamespace(tokenizer=tokenizer), FAMILIES["qwen2_5_vl"])
    assert set(prompt.banned_ids(processor)) == set(tokenizer.convert_tokens_to_ids(vision))
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
