"""The step does not depend on how its samples are split, padded, ordered or accompanied; pixels
follow their sample.

On a random tiny Qwen2.5-VL in float32: equal means within a few units of rounding of the sums.
"""

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from geoagent_rl.grpo.batching import TrainSample, collate, micro_batches, plan
from geoagent_rl.grpo.logprobs import selective_logprobs
from geoagent_rl.grpo.loss import importance_weights, normaliser, policy_losses, unnormalised_loss
from geoagent_rl.policy.model import load_policy, load_processor
from geoagent_rl.policy.prompt import banned_ids, encode
from tests.support import tiny_random

FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
KINDS, LEVELS = ["grpo", "dapo", "dr_grpo", "bnpo"], ["token", "sequence"]
SIZES = [(84, 84), (140, 56), (60, 90)]
ROWS = st.sampled_from([0, 1, 10**6])  # see rows_of; 0: completions of one prompt share no row


class World:
    """A policy with a non-zero adapter, three pictures, seven samples."""

    def __init__(self, directory: str) -> None:
        self.processor = load_processor(directory)
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
        self.banned = torch.tensor(banned_ids(self.processor.tokenizer))

    def logprobs(self, samples, images=("0", "1", "2"), balance=0):
        """(log-probabilities [B, T], batch); the pictures' features are computed in the order
        `images`.
        """
        config = self.policy.network.config
        batch = collate(
            samples, images, config.image_token_id, self.processor.tokenizer.pad_token_id, balance
        )
        grids = torch.cat([self.prompts[i].image_grid_thw for i in images])
        features = self.policy.image_features(
            torch.cat([self.prompts[i].pixel_values for i in images]), grids
        )
        values, _ = self.policy(
            batch, features, self.policy.position_ids(batch, grids), 0.7, self.banned
        )
        return values, batch

    def step(self, batches, kind, level="token", balance=0):
        """(loss, gradients) of micro-batches accumulated one after the other.

        level: of a stale ratio and of an importance weight; the sampler's log-probabilities are
        made up from the ids."""
        self.policy.zero_grad()
        loss = sequences = tokens = 0.0
        whole_group = sum(len(s.completion_ids) for samples in batches for s in samples if s.weight)
        for samples in batches:
            values, batch = self.logprobs(samples, balance=balance)
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
        (kind, level): world.step([world.samples], kind, level)
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
@given(data=st.data(), kind=st.sampled_from(KINDS), level=st.sampled_from(LEVELS), balance=ROWS)
def test_any_split_and_order_gives_the_whole_batch_step(world, whole, data, kind, level, balance):
    order = data.draw(st.permutations(world.samples))
    cuts = sorted(data.draw(st.sets(st.integers(1, 6), max_size=6)))
    batches = [order[a:b] for a, b in zip([0, *cuts], [*cuts, 7], strict=True)]
    assert_same(world.step(batches, kind, level, balance), whole[kind, level])


@FEW
@given(
    budget=st.integers(1, 2000),
    ranks=st.sampled_from([1, 2, 3, 4]),
    kind=st.sampled_from(["grpo", "bnpo"]),
    balance=ROWS,
)
def test_any_budget_and_number_of_ranks_gives_the_whole_batch_step(
    world, whole, budget, ranks, kind, balance
):
    batches = [
        batch for batches in plan(world.samples, ranks, budget, balance) for batch in batches
    ]
    assert_same(world.step(batches, kind, balance=balance), whole[kind, "token"])


@FEW
@given(data=st.data(), balance=ROWS)
def test_logprobs_do_not_depend_on_company_padding_or_order_of_pictures(world, data, balance):
    order = data.draw(st.permutations(world.samples))
    images = data.draw(st.permutations(["0", "1", "2"]))
    together, batch = world.logprobs(order, images, balance)
    assert len(batch.input_ids) == (
        7 if balance == 0 else 3 if balance == 10**6 else len(batch.input_ids)
    )
    for row, sample in enumerate(order):
        alone, _ = world.logprobs([sample])
        n = len(sample.completion_ids)
        torch.testing.assert_close(together[row, :n], alone[0], rtol=0, atol=2e-5)
        assert not together[row, n:].any()


def test_the_picture_matters(world):
    """Otherwise the test above would prove nothing."""
    first, other = world.samples[0], world.samples[3]
    assert first.image == other.image == "0"
    images = ["0", "1", "2"]
    values, _ = world.logprobs([first], images)
    world.prompts["0"], kept = swapped(world.prompts["0"]), world.prompts["0"]
    changed, _ = world.logprobs([first], images)
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
        hidden, head, targets, 50, 0.7, banned, chunk_elements=50 * rows
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
    values, entropy = selective_logprobs(hidden, head, torch.tensor([1, 2, 3]), 10)
    assert values.dtype == entropy.dtype == torch.float32


def test_budgets_only_group(world):
    assert [s.uid for b in micro_batches(world.samples, 1) for s in b] == [
        s.uid for b in micro_batches(world.samples, 10**6) for s in b
    ]
