"""A learner's pictures: those that an engine has processed are not decoded again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from actors.pictures import Pictures
from geoagent_rl.grpo.samples import train_group
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import EncodedPrompt, load_processor
from tests.support import tiny_random
from tests.support.learner_cases import config, group

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> tuple[str, list[str]]:
    folder = tmp_path_factory.mktemp("pictures")
    model = tiny_random.build(folder / "model", hidden=64)
    return model, [tiny_random.picture(folder / f"{i}.png", i, (84, 56)) for i in range(2)]


def test_a_picture_that_was_sent_is_not_read_again(place):
    policy, processor = load_policy(place[0]), load_processor(place[0])
    own = Pictures(config(), processor, policy)
    grids, features = own.look(place[1], CPU)
    sent = {f"gone/{i}": own.encoded(image) for i, image in enumerate(place[1])}
    far = Pictures(config(), processor, policy, fetch=lambda name: sent[name])
    far.sent = {name: name for name in sent}
    found = far.look(list(sent), CPU)
    assert torch.equal(found[0], grids)
    assert all(torch.equal(a, b) for a, b in zip(found[1], features, strict=True))
    far.look(list(sent), CPU)  # fetched once


def test_the_question_is_the_configured_one(place):
    asked = replace(config(), policy=replace(config().policy, user_prompt="Which town is this?"))
    processor = load_processor(place[0])
    found = Pictures(asked, processor, load_policy(place[0])).encoded(place[1][0])
    assert "Which town is this?" in processor.tokenizer.decode(found.ids)


def test_one_that_is_lost_with_its_engine_is_decoded_here(place):
    def lost(name: str) -> EncodedPrompt | None:
        return None

    processor, policy = load_processor(place[0]), load_policy(place[0])
    far, own = Pictures(config(), processor, policy, lost), Pictures(config(), processor, policy)
    far.sent = {place[1][0]: "of a dead engine"}
    assert torch.equal(far.encoded(place[1][0]).pixel_values, own.encoded(place[1][0]).pixel_values)


def test_a_group_takes_its_picture_along_also_from_a_sample_without_a_score(place):
    whole = group(place, 0, 0, unscorable=1)
    one = whole.samples[1]
    seen = replace(one, rollout=replace(one.rollout, picture=Path("here")))
    samples = (whole.samples[0], seen, *whole.samples[2:])
    assert train_group(replace(whole, samples=samples)).picture == Path("here")
    assert train_group(whole).picture is None
