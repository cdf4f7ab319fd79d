"""The step does not depend on how its samples are split, padded, ordered or accompanied; pixels
follow their sample.

On a random tiny Qwen2.5-VL in float32: equal means within a few units of rounding of the sums.
"""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.attention import flex_attention

from geoagent_rl.grpo.balance import assign
from geoagent_rl.grpo.batching import Layout, collate, filler, micro_batches, own_rows
from geoagent_rl.grpo.logprobs import selective_logprobs
from geoagent_rl.grpo.loss import importance_weights, normaliser, policy_losses, unnormalised_loss
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.policy.attention import use_flex
from geoagent_rl.policy.lora import use_fast_adapters
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import banned_ids, encode, load_processor
from geoagent_rl.policy.rows import visible, visible_blocks
from tests.support import tiny_random

FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
KINDS, LEVELS = ["grpo", "dapo", "dr_grpo", "bnpo"], ["token", "sequence"]
SIZES = [(84, 84), (140, 56), (60, 90)]
PACKED, TOGETHER = Layout(10**6, 1, packed=True, multiple=128), Layout(10**6, 10**6)
# completions alone, a few behind a prompt, all behind it, all prompts in one row
LAYOUTS = st.sampled_from(
    [
        Layout(10**6, 1, share=False),
        Layout(10**6, 1),
        Layout(10**6, 10**6, multiple=8),
        Layout(10**6, 1, packed=True, multiple=16),
    ]
)


class World:
    """A policy with a non-zero adapter, three pictures, seven samples."""

    def __init__(self, directory: str) -> None:
        self.directory, self.processor = directory, load_processor(directory)
        self.policy = load_policy(directory, lora=(4, 8))
        with torch.no_grad():
            for name, p in self.policy.named_parameters():
                if "lora_B" in name:
                    p.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
        noise = torch.Generator().manual_seed(1)
        self.prompts = {}
        for i, (width, height) in enumerate(SIZES):
            pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=noise)
            self.prompts[str(i)] = encode(
                self.processor, Image.fromarray(pixels.numpy()), "tiny", 10_000
            )
        rng = random.Random(2)
        self.samples = []
        for i in range(7):
            ids = tuple(rng.randrange(256) for _ in range(rng.randint(1, 12)))
            image = str(i % 3)
            self.samples.append(
                TrainSample(str(i), image, self.prompts[image].ids, ids, rng.gauss(0, 1))
            )
        self.banned = torch.tensor(banned_ids(self.processor))

    def logprobs(self, rows, images=("0", "1", "2"), multiple=1, mask=None):
        """(log-probabilities [B, T], batch); the pictures' features are computed in the order
        `images`. mask: of the batch; None: the dense one.
        """
        config = self.policy.network.config
        tokens = config.image_token_id, self.processor.tokenizer.pad_token_id
        batch = collate(rows, images, *tokens, multiple)
        grids = torch.cat([self.prompts[i].image_grid_thw for i in images])
        features = self.policy.image_features(
            torch.cat([self.prompts[i].pixel_values for i in images]), grids
        )
        positions = self.policy.position_ids(batch, grids)
        seen = mask(batch) if mask else visible(batch, torch.float32)
        values, _ = self.policy(batch, features, positions, 0.7, self.banned, seen)
        return values, batch

    def step(self, batches, kind, level="token", multiple=1, seen=None):
        """(loss, gradients) of micro-batches accumulated one after the other.

        level: of a stale ratio and of an importance weight; the sampler's log-probabilities are
        made up from the ids. seen: the mask of a batch, see `logprobs`."""
        self.policy.zero_grad()
        loss = sequences = tokens = 0.0
        found = [s for rows in batches for row in rows for block in row for s in block]
        whole_group = sum(len(s.completion_ids) for s in found if s.weight)
        for rows in batches:
            values, batch = self.logprobs(rows, multiple=multiple, mask=seen)
            mask = batch.completion_mask.float()
            sampler = -4.8 - 0.4 * (batch.targets % 3) * mask
            losses, _ = policy_losses(
                values,
                batch.advantages,
                mask,
                ratio=level,
                weights=importance_weights(values, sampler, mask, level, 2.0),
                old_logprobs=sampler,
                ref_logprobs=values.detach() - 0.1,
                clip_low=0.2,
                clip_high=0.2,
                ratio_cap=2.0,
                kl_beta=0.1,
            )
            total = unnormalised_loss(losses, batch.mask, kind, whole_group)
            total.backward()
            loss += total.item()
            sequences += float(batch.mask.any(-1).sum())
            tokens += float(batch.mask.sum())
        divisor = normaliser(kind, sequences, tokens, max_tokens=12)
        return loss / divisor, {
            n: p.grad / divisor for n, p in self.policy.named_parameters() if p.grad is not None
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tiny_random.build(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def whole(world):
    return {
        (kind, level): world.step([own_rows(world.samples)], kind, level)
        for kind in KINDS
        for level in LEVELS
    }


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-6)
    largest = max(float(g.abs().max()) for g in expected[1].values())
    assert found[1].keys() == expected[1].keys() and largest > 0
    for name, gradient in expected[1].items():
        torch.testing.assert_close(
            found[1][name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name
        )


@FEW
@given(
    data=st.data(),
    kind=st.sampled_from(KINDS),
    level=st.sampled_from(LEVELS),
    layout=LAYOUTS,
)
def test_any_split_and_order_gives_the_whole_batch_step(world, whole, data, kind, level, layout):
    order = data.draw(st.permutations(world.samples))
    cuts = sorted(data.draw(st.sets(st.integers(1, 6), max_size=6)))
    parts = [order[a:b] for a, b in zip([0, *cuts], [*cuts, 7], strict=True)]
    batches = [rows for part in parts for rows in micro_batches(part, layout)]
    assert_same(world.step(batches, kind, level, layout.multiple), whole[kind, level])


@FEW
@given(
    budget=st.integers(1, 2000),
    loads=st.lists(st.floats(0, 500), min_size=1, max_size=4),
    kind=st.sampled_from(["grpo", "bnpo"]),
    cut=st.booleans(),
    layout=LAYOUTS,
)
def test_any_budget_and_assignment_to_ranks_gives_the_whole_batch_step(
    world, whole, budget, loads, kind, cut, layout
):
    layout = replace(layout, budget=budget)
    shares, _ = assign(world.samples, loads, 800, layout.share, cut)
    batches = [rows for share in shares for rows in micro_batches(share, layout)]
    batches.append(filler(world.samples))
    assert_same(world.step(batches, kind, multiple=layout.multiple), whole[kind, "token"])


@FEW
@given(data=st.data(), layout=LAYOUTS)
def test_logprobs_do_not_depend_on_company_padding_or_order_of_pictures(world, data, layout):
    images = data.draw(st.permutations(["0", "1", "2"]))
    (rows,) = micro_batches(data.draw(st.permutations(world.samples)), layout)
    together, _ = world.logprobs(rows, images, layout.multiple)
    order = [s for row in rows for block in row for s in block]
    assert not layout.packed or len(rows) == 1
    for row, sample in enumerate(order):
        alone, _ = world.logprobs(own_rows([sample]))
        n = len(sample.completion_ids)
        torch.testing.assert_close(together[row, :n], alone[0], rtol=0, atol=2e-5)
        assert not together[row, n:].any()


def test_flex_attention_sees_what_the_mask_shows(world):
    for layout in (PACKED, TOGETHER):
        (rows,) = micro_batches(world.samples, layout)
        expected, _ = world.logprobs(rows, multiple=layout.multiple)
        kept = world.policy.network.config.text_config._attn_implementation
        use_flex(world.policy.network)
        with torch.no_grad():
            found, _ = world.logprobs(rows, multiple=layout.multiple, mask=visible_blocks)
            masked, _ = world.logprobs(rows, multiple=layout.multiple)
            single, _ = world.logprobs(own_rows(world.samples[:1]))
        world.policy.network.set_attn_implementation({"text_config": kept})
        torch.testing.assert_close(found, expected.detach(), rtol=0, atol=2e-5)
        torch.testing.assert_close(masked, expected.detach(), rtol=0, atol=0)
        torch.testing.assert_close(
            single, world.logprobs(own_rows(world.samples[:1]))[0].detach(), rtol=0, atol=0
        )


@pytest.mark.parametrize("layout", [PACKED, TOGETHER], ids=["packed", "together"])
def test_flex_attention_gives_the_masks_gradients(world, whole, layout, monkeypatch):
    """torch refuses to differentiate flex attention on CPUs, because it does not compile there; the
    derivative itself, which is what a compiled kernel has to equal (tests/gpu), is there."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *tensors: None)
    kept = world.policy.network.config.text_config._attn_implementation
    use_flex(world.policy.network)
    batches = list(micro_batches(world.samples, layout))
    found = world.step(batches, "grpo", multiple=layout.multiple, seen=visible_blocks)
    world.policy.network.set_attn_implementation({"text_config": kept})
    assert_same(found, whole["grpo", "token"])


def test_rows_of_several_completions_need_a_mask(world):
    with pytest.raises(ValueError, match="need a mask"):
        world.logprobs([[world.samples[:1], world.samples[1:2]]], mask=lambda batch: None)


@pytest.mark.parametrize(("rank", "dropout"), [(4, 0.0), (64, 0.0), (4, 0.4), (64, 0.4)])
def test_fast_adapters_are_pefts(world, rank, dropout):
    """Added by the matrix product (small ranks) and multiplied out (large ones), switched off, and
    with dropout, which is never multiplied out."""
    peft, fast = (
        load_policy(world.directory, lora=(rank, 2 * rank), lora_dropout=dropout).train()
        for _ in range(2)
    )
    folded = use_fast_adapters(fast.lora_layers)
    assert (folded > 0) == (rank == 64 and not dropout)
    kept, steps = world.policy, []
    for policy in (peft, fast):
        with torch.no_grad():
            for name, p in policy.named_parameters():
                if "lora_B" in name:
                    p.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
        world.policy = policy
        with torch.no_grad(), policy.adapter_off():
            base, _ = world.logprobs(own_rows(world.samples))
        torch.manual_seed(5)  # of the dropout
        steps.append((*world.step([own_rows(world.samples)], "grpo"), base))
    world.policy = kept
    assert_same(steps[1][:2], steps[0][:2])
    ids = list(world.samples[0].prompt_ids[:4])
    for policy in (peft, fast):  # a probe is without it
        assert policy.text_logprobs(ids).equal(policy.text_logprobs(ids)) and policy.training
    torch.testing.assert_close(steps[1][2], steps[0][2], rtol=0, atol=1e-5)


def test_the_picture_matters(world):
    """Otherwise the test above would prove nothing."""
    first, other = world.samples[0], world.samples[3]
    assert first.image == other.image == "0"
    images = ["0", "1", "2"]
    values, _ = world.logprobs(own_rows([first]), images)
    world.prompts["0"], kept = swapped(world.prompts["0"]), world.prompts["0"]
    changed, _ = world.logprobs(own_rows([first]), images)
    world.prompts["0"] = kept
    assert (values - changed).abs().max() > 1e-3


def swapped(prompt):
    return type(prompt)(prompt.ids, prompt.pixel_values.flip(0), prompt.image_grid_thw)


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_chunks_of_the_vocabulary_change_nothing(rows):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(20, 8, generator=generator, requires_grad=True)
    head = torch.nn.Linear(8, 50, bias=False)
    targets = torch.randint(0, 45, (20,), generator=generator)
    banned = torch.tensor([46, 47])
    logits = head(hidden).index_fill(-1, banned, -torch.inf) / 0.7
    expected = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    found, found_entropy = selective_logprobs(
        hidden, head, targets, 50, 0.7, banned, chunk_elements=50 * rows, entropy=True
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found_entropy, entropy, rtol=1e-4, atol=1e-5)
    weights = torch.arange(20.0)
    (gradient,) = torch.autograd.grad((found * weights).sum(), hidden)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), hidden)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_half_precision_models_give_float32_log_probabilities():
    hidden = torch.randn(3, 8, dtype=torch.bfloat16)
    head = torch.nn.Linear(8, 10, dtype=torch.bfloat16)
    values, entropy = selective_logprobs(hidden, head, torch.tensor([1, 2, 3]), 10, entropy=True)
    assert values.dtype == entropy.dtype == torch.float32
