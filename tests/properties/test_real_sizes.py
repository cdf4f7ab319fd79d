"""What long reasoning and large models need: shared vision features, half precision, image budget,
whole prompts.
"""

import pytest
import torch
from PIL import Image

from geoagent_rl.grpo.batching import collate, own_rows
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import encode, load_processor
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
        own_rows(rows), ["0", "1"], network.config.image_token_id, processor.tokenizer.pad_token_id
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
    shown = [prompts[block.image] for block in batch.blocks]
    logits = policy.network(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        mm_token_type_ids=(batch.input_ids == policy.network.config.image_token_id).long(),
        pixel_values=torch.cat([p.pixel_values for p in shown]),
        image_grid_thw=torch.cat([p.image_grid_thw for p in shown]),
    ).logits
    mask = batch.completion_mask
    predicted = logits.flatten(0, 1)[batch.places].log_softmax(-1)
    plain = predicted.gather(-1, batch.targets[mask][:, None])[:, 0]
    plain.sum().backward()
    expected = gradients(policy)
    ours = logprobs(policy, batch, prompts)
    ours.sum().backward()
    torch.testing.assert_close(ours[mask], plain, rtol=0, atol=2e-5)
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
    grown = collate(own_rows([long]), ["0"], network.config.image_token_id, 0)
    assert grown.input_ids[0].tolist() == [*long.prompt_ids, *long.completion_ids]
    assert grown.attention_mask.all()


def test_windows_of_one_size_in_one_batch_give_the_towers_features(place):
    """Against transformers' own forward, for pictures with windows of several sizes."""
    policy, processor = load_policy(place[0]), place[1]
    visual = policy.network.model.visual
    visual.window_size = 2 * 28  # several windows in a picture of 84 pixels
    prompts = [
        encode(processor, Image.effect_noise(size, 60).convert("RGB"), "tiny", 10_000)
        for size in ((84, 84), (140, 56), (56, 112), (84, 84))
    ]
    grids = torch.cat([p.image_grid_thw for p in prompts])
    pixels = torch.cat([p.pixel_values for p in prompts])
    with torch.no_grad():
        expected = policy.network.model.get_image_features(pixels, grids).pooler_output
    found = policy.image_features(pixels, grids)
    assert [len(f) for f in found] == [len(f) for f in expected]
    torch.testing.assert_close(torch.cat(found), torch.cat(expected), rtol=1e-5, atol=1e-5)
