"""The GRPO objective against numbers worked out by hand."""

import math

import pytest
import torch

from geoagent_rl.grpo.loss import clipped_surrogate, k3, normaliser, policy_losses, unnormalised_loss

LOW, HIGH = 0.2, 0.3


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, 0),
        (1.1, 2.0, -2.2, 0),
        (1.5, 2.0, -2.6, 1),  # gain limited at 1.3
        (0.5, 2.0, -1.0, 0),  # a worse policy is not protected
        (1.5, -2.0, 3.0, 0),
        (0.5, -2.0, 1.6, 1),  # gain limited at 0.8
        (0.9, -2.0, 1.8, 0),
        (5.0, 0.0, 0.0, 0),
    ],
)
def test_clipped_surrogate(ratio, advantage, loss, clipped):
    old = torch.tensor([[-1.0]])
    new = old + math.log(ratio)
    found, active = clipped_surrogate(new, old, torch.tensor([advantage]), LOW, HIGH)
    assert found.item() == pytest.approx(loss, abs=1e-5)
    assert active.item() == clipped


def test_ratio_cap_bounds_tokens_of_bad_samples():
    old, new = torch.tensor([[-5.0]]), torch.tensor([[-1.0]])  # ratio e^4
    loss, _ = clipped_surrogate(new, old, torch.tensor([-1.0]), LOW, HIGH, ratio_cap=2.0)
    assert loss.item() == pytest.approx(2.0)


def test_on_policy_ratio_is_exactly_one_and_its_gradient_is_minus_the_advantage():
    logprobs = torch.tensor([[-0.3, -2.7, -11.1]], requires_grad=True)
    losses, found = policy_losses(
        logprobs,
        torch.tensor([1.7]),
        old_logprobs=None,
        ref_logprobs=None,
        clip_low=0.2,
        clip_high=0.2,
        ratio_cap=2.0,
        kl_beta=0.0,
    )
    assert torch.equal(losses.detach(), torch.full((1, 3), -1.7))
    assert not found["clipped"].any() and "kl" not in found
    losses.sum().backward()
    assert torch.equal(logprobs.grad, torch.full((1, 3), -1.7))


def test_k3_is_zero_at_the_reference_and_never_negative():
    logprobs = torch.tensor([-1.0, -1.0, -1.0])
    reference = torch.tensor([-1.0, -0.5, -3.0])
    expected = [0.0, math.exp(0.5) - 0.5 - 1, math.exp(-2) + 2 - 1]
    assert k3(logprobs, reference).tolist() == pytest.approx(expected, abs=1e-6)


def test_kl_is_added_per_token_with_its_weight():
    logprobs, reference = torch.tensor([[-1.0]]), torch.tensor([[-0.5]])
    losses, found = policy_losses(
        logprobs,
        torch.tensor([0.0]),
        old_logprobs=None,
        ref_logprobs=reference,
        clip_low=0.2,
        clip_high=0.2,
        ratio_cap=2.0,
        kl_beta=0.5,
    )
    assert losses.item() == pytest.approx(0.5 * (math.exp(0.5) - 1.5), abs=1e-6)
    assert found["kl"].item() == pytest.approx(math.exp(0.5) - 1.5, abs=1e-6)


TOKENS = torch.tensor([[1.0, 2.0, 3.0], [10.0, 99.0, 99.0]])
MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("grpo", (2.0 + 10.0) / 2), ("dapo", 16.0 / 4), ("dr_grpo", 16.0 / (2 * 8))],
)
def test_aggregation(kind, loss):
    total = unnormalised_loss(TOKENS, MASK, kind) / normaliser(kind, sequences=2, tokens=4, max_tokens=8)
    assert total.item() == pytest.approx(loss)


@pytest.mark.parametrize("kind", ["grpo", "dapo", "dr_grpo"])
def test_a_sequence_that_does_not_count_adds_nothing(kind):
    mask = MASK.clone()
    mask[1] = 0
    alone = unnormalised_loss(TOKENS[:1], MASK[:1], kind)
    assert torch.equal(unnormalised_loss(TOKENS, mask, kind), alone)
    assert normaliser(kind, 0, 0, 8) > 0
