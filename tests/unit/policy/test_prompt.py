"""Prompts: text, image budget and ids agree between engine, learner and the tiny policy's own
training.
"""

import pytest
import torch
from PIL import Image

from geoagent_rl.answers.forms import FORMS
from geoagent_rl.config import load
from geoagent_rl.policy.families import FAMILIES
from geoagent_rl.policy.prompt import (
    QUESTION,
    SYSTEM_PROMPTS,
    banned_ids,
    check_image_tokens,
    completion_ids,
    encode,
    image_budget,
    load_processor,
    messages,
    probe_ids,
    prompt_text,
)
from geoagent_rl.policy.prompt_files import with_prompts
from geoagent_rl.tiny import policy as tiny
from geoagent_rl.tiny import tokenizer as tiny_tokenizer
from geoagent_rl.types import UserError
from tests.support import tiny_random


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    return load_processor(tiny_random.build(tmp_path_factory.mktemp("tiny")))


def test_the_tiny_policy_is_asked_what_it_was_trained_on_and_its_vision_tokens_are_banned():
    text = [
        part["text"]
        for turn in messages("tiny")
        for part in turn["content"]
        if part["type"] == "text"
    ]
    assert text == [SYSTEM_PROMPTS["tiny"], QUESTION] and set(text) < set(tiny.PROMPT_TEXTS)
    vision = {
        token for token in tiny_tokenizer.SPECIAL_TOKENS if "vision" in token or "_pad" in token
    }
    assert len(vision) == 4 and vision <= set(FAMILIES["qwen2_5_vl"].banned)


def test_prompt_text_has_one_picture_and_waits_for_the_answer(processor):
    text = prompt_text(processor, "tiny")
    assert text.count("<|image_pad|>") == 1 and text.endswith("<|im_start|>assistant\n")
    assert "<answer>Country; Region; Place</answer>" in prompt_text(processor, "full")
    assert "Name the town." in prompt_text(processor, "Name the town.", "Where?")


def with_policy(tmp_path, **policy):
    return with_prompts(
        load(
            None,
            [
                "data.manifest=scenes",
                "reward.weights.consistency=0",
                *(f"policy.{k}={v}" for k, v in policy.items()),
            ],
        )
    )


def test_prompts_from_files_become_part_of_the_configuration(tmp_path):
    (tmp_path / "p.txt").write_text("Name the town.\n")
    config = with_policy(tmp_path, system_prompt=tmp_path / "p.txt", user_prompt="Where is this?")
    (tmp_path / "p.txt").unlink()
    assert config.policy.system_prompt == "Name the town."
    assert with_prompts(config) == config and config.policy.user_prompt == "Where is this?"


@pytest.mark.parametrize("form", ["levels", *FORMS])
def test_every_answer_form_has_a_prompt(tmp_path, form):
    told = with_policy(tmp_path, system_prompt="form", answer=form).policy.system_prompt
    assert "best guess" in SYSTEM_PROMPTS.get(told, told)


@pytest.mark.parametrize("wrong", ["other", "nowhere.txt"])
def test_a_prompt_that_is_none_is_refused(tmp_path, wrong):
    with pytest.raises(UserError, match=f"policy.system_prompt.*{wrong}"):
        with_policy(tmp_path, system_prompt=wrong)


@pytest.mark.parametrize("size", [(84, 84), (300, 200), (30, 400)])
def test_image_tokens_match_the_features_at_any_size(processor, size):
    prompt = encode(processor, Image.new("RGB", size), "tiny", 10_000)
    image_token = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    tokens, grid = prompt.ids.count(image_token), prompt.image_grid_thw[0]
    check_image_tokens("x.png", tokens, grid, merge=2)
    assert len(prompt.pixel_values) == int(torch.prod(prompt.image_grid_thw))
    # The checkpoint's own limit is below 10,000 pixels; a side never shrinks below one merged
    # patch.
    assert len(prompt.pixel_values) * 14 * 14 <= 84 * 84 or min(prompt.image_grid_thw[0, 1:]) == 2
    with pytest.raises(ValueError, match="truncated"):
        check_image_tokens("x.png", tokens, grid * 2, merge=2)


def test_a_sliver_is_refused_with_a_reason(processor):
    with pytest.raises(UserError, match="200 times"):
        encode(processor, Image.new("RGB", (2010, 10)), "tiny", 10_000)


def test_the_budget_is_the_smaller_of_ours_and_the_checkpoints(processor):
    assert image_budget(processor, 200_000)["size"]["longest_edge"] == 84 * 84
    assert image_budget(processor, 56 * 56)["size"]["longest_edge"] == 56 * 56


def test_completions_end_with_the_end_token_and_bans_are_special(processor):
    tokenizer = processor.tokenizer
    ids = completion_ids(processor, "Köln")
    assert (
        ids[-1] == tokenizer.eos_token_id
        and tokenizer.decode(ids, skip_special_tokens=True) == "Köln"
    )
    banned = tokenizer.convert_ids_to_tokens(banned_ids(processor))
    assert banned == ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    assert len(probe_ids(tokenizer)) > 10


def test_a_text_with_special_tokens_is_refused_by_name(tmp_path):
    processor = load_processor(tiny_random.build(tmp_path / "policy"))
    assert completion_ids(processor, "<think>a</think><answer>b</answer>", "row-7")
    for token in ("<|image_pad|>", "<|im_end|>"):
        with pytest.raises(UserError, match=r"row-7: the text holds <\|im"):
            completion_ids(processor, f"a {token} b", "row-7")
