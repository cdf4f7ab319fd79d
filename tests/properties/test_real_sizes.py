"""What long reasoning and large models need: shared vision features, half precision, image budget,
whole prompts.
"""

import pytest
import torch
from PIL import Image

from geoagent_rl.grpo.batching import TrainSample, collate
from geoagent_rl.policy.model import load_policy, load_processor
from geoagent_rl.policy.prompt import encode
from tests.support import tiny_random

SIZES = [(84, 84), (60, 90)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tiny_random.build(tmp_path_factory.mktemp("tiny"))
    return directory, load_processor(directory)


def batch_of(processor, network, samples: int):
    """(MicroBatch, prompts): two pictures, shown by the samples in turn."""
    noise = torch.Generator().manual_seed(0)
    prompts = []
    for width, height in SIZES:
        pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=noise)
        prompts.append(encode(processor, Image.fromarray(pixels.numpy()), "tiny", 10_000))
    rows = []
    for i in range(samples):
        ids = torch.randint(0, 256, (4 + 3 * i,), generator=noise).tolist()
        rows.append(TrainSample(str(i), str(i % 2), prompts[i % 2].ids, tuple(ids), 1.0))
    return collate(
        rows, ["0", "1"], network.config.image_token_id, processor.tokenizer.pad_token_id
    ), prompts


def logprobs(policy, batch, prompts):
    grids = torch.cat([p.image_grid_thw for p in prompts])
    features = policy.image_features(torch.cat([p.pixel_values for p in prompts]), grids)
    return policy(batch, features, policy.position_ids(batch, grids))[0]


def gradients(policy):
    found = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    return found


def test_shared_features_give_the_plain_models_log_probabilities_and_gradients(place):
    """Against the Hugging Face model as it comes: every sequence brings its own pixels through the
    vision tower.
    """
    directory, processor = place
    policy = load_policy(directory, lora=(4, 8))
    with torch.no_grad():
        for name, p in policy.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    batch, prompts = batch_of(processor, policy.network, 5)
    shown = [prompts[i] for i in batch.image_index]
    logits = policy.network(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        mm_token_type_ids=batch.mm_token_type_ids,
        pixel_values=torch.cat([p.pixel_values for p in shown]),
        image_grid_thw=torch.cat([p.image_grid_thw for p in shown]),
    ).logits
    mask, rows = batch.completion_mask, torch.arange(5)[:, None]
    plain = (
        logits[rows, batch.positions].log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    )
    (plain * mask).sum().backward()
    expected = gradients(policy)
    ours = logprobs(policy, batch, prompts)
    ours.sum().backward()
    torch.testing.assert_close(ours[mask], plain[mask], rtol=0, atol=2e-5)
    found = gradients(policy)
    largest = max(float(g.abs().max()) for g in expected.values())
    assert (
        found.keys() == expected.keys() and largest > 0 and not [n for n in found if "visual" in n]
    )
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name)


def test_a_bfloat16_model_gives_float32_log_probabilities(place):
    """Its logits have 8 bits; their softmax must not: near -5.5 a bfloat16 moves in steps of
    1/32.
    """
    directory, processor = place
    full, half = load_policy(directory), load_policy(directory, "bfloat16")
    batch, prompts = batch_of(processor, full.network, 3)
    exact, found = logprobs(full, batch, prompts).detach(), logprobs(half, batch, prompts).detach()
    mask = batch.completion_mask
    assert found.dtype == torch.float32 and half.network.lm_head.weight.dtype == torch.bfloat16
    assert 0 < (exact - found)[mask].abs().max() < 0.15
    assert len(set(found[mask].tolist())) > len(set(found[mask].bfloat16().tolist()))


@pytest.mark.parametrize("size", [(84, 84), (200, 100), (41, 300)])
@pytest.mark.parametrize("max_pixels", [28 * 28 * 4, 28 * 28 * 9, 10_000])
def test_pictures_keep_the_budget_and_a_tighter_one_costs_fewer_tokens(place, size, max_pixels):
    _, processor = place
    image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    prompt = encode(processor, Image.new("RGB", size), "tiny", max_pixels)
    tokens = prompt.ids.count(image)
    allowed = min(max_pixels, 84 * 84) // 28**2
    assert tokens == len(prompt.pixel_values) // 4
    assert (
        tokens <= allowed or 1 in (prompt.image_grid_thw[0, 1:] // 2).tolist()
    )  # a sliver keeps one row of patches


def test_a_prompt_is_never_cut(place):
    """A completion as long as it likes: all of the prompt's tokens are in the batch, in their
    place.
    """
    _, processor = place
    network = load_policy(place[0]).network
    batch, prompts = batch_of(processor, network, 2)
    long = TrainSample("long", "0", prompts[0].ids * 3, tuple(range(200)) * 3)
    grown = collate([long], ["0"], network.config.image_token_id, 0)
    assert tuple(grown.input_ids[0].tolist()) == long.prompt_ids + long.completion_ids
    assert grown.attention_mask.all()
