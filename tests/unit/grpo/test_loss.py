"""The GRPO objective against numbers worked out by hand."""

import math

import pytest
import torch

from geoagent_rl.config import Config
from geoagent_rl.grpo.batching import collate, own_rows
from geoagent_rl.grpo.loss import (
    clipped_surrogate,
    grpo_losses,
    importance_weights,
    k3,
    log_ratios,
    normaliser,
    policy_losses,
    unnormalised_loss,
)
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.types import InfraError

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
    log_ratio = torch.tensor([[math.log(ratio)]])
    found, active = clipped_surrogate(log_ratio, torch.tensor([advantage]), LOW, HIGH)
    assert found.item() == pytest.approx(loss, abs=1e-5)
    assert active.item() == clipped


def test_ratio_cap_bounds_tokens_of_bad_samples():
    loss, _ = clipped_surrogate(
        torch.tensor([[4.0]]), torch.tensor([-1.0]), LOW, HIGH, ratio_cap=2.0
    )
    assert loss.item() == pytest.approx(2.0)


def test_on_policy_ratio_is_exactly_one_and_its_gradient_is_minus_the_advantage():
    logprobs = torch.tensor([[-0.3, -2.7, -11.1]], requires_grad=True)
    losses, found = policy_losses(
        logprobs,
        torch.tensor([1.7]),
        torch.ones(1, 3),
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
        torch.ones(1, 1),
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
    [
        ("grpo", (2.0 + 10.0) / 2),
        ("dapo", 16.0 / 4),
        ("dr_grpo", 16.0 / (2 * 8)),
        ("bnpo", 16.0 / 4),
    ],
)
def test_aggregation(kind, loss):
    total = unnormalised_loss(TOKENS, MASK, kind, 4) / normaliser(
        kind, sequences=2, tokens=4, max_tokens=8
    )
    assert total.item() == pytest.approx(loss)


def test_bnpo_is_the_mean_over_groups_of_their_token_means_however_a_group_is_split():
    first = unnormalised_loss(TOKENS[:1], MASK[:1], "bnpo", 4) + unnormalised_loss(
        TOKENS[1:], MASK[1:], "bnpo", 4
    )
    second = unnormalised_loss(TOKENS[:1], MASK[:1], "bnpo", 3)
    total = (first + second) / normaliser("bnpo", sequences=3, tokens=7, max_tokens=8, groups=2)
    assert total.item() == pytest.approx((16 / 4 + 6 / 3) / 2)


OLD = torch.tensor([[-1.0, -1.0, -1.0], [-2.0, 0.0, 0.0]])
NEW = OLD + torch.tensor([[0.3, 0.0, -0.6], [0.5, 0.0, 0.0]])


def test_a_sequence_ratio_is_the_geometric_mean_of_its_tokens_ratios():
    assert torch.equal(log_ratios(NEW, OLD, MASK, "token"), NEW - OLD)
    found = log_ratios(NEW, OLD, MASK, "sequence")
    assert found.shape == (2, 1) and found[:, 0].tolist() == pytest.approx([-0.1, 0.5])


def test_a_sequence_ratio_clips_all_tokens_of_a_sequence_together():
    new = NEW.clone().requires_grad_()
    asked = {**PLAIN, "old_logprobs": OLD}
    losses, found = policy_losses(new, torch.tensor([2.0, 1.0]), MASK, ratio="sequence", **asked)
    assert losses[0].tolist() == pytest.approx([-2 * math.exp(-0.1)] * 3)
    assert losses[1].tolist() == pytest.approx([-1.2] * 3)  # e^0.5 limited
    assert found["clipped"].tolist() == [[0, 0, 0], [1, 1, 1]]
    unnormalised_loss(losses, MASK, "grpo").backward()
    assert new.grad[0].tolist() == pytest.approx([-2 * math.exp(-0.1) / 3] * 3)
    assert not new.grad[1].any()


PLAIN = {
    "old_logprobs": None,
    "ref_logprobs": None,
    "clip_low": 0.2,
    "clip_high": 0.2,
    "ratio_cap": 2.0,
    "kl_beta": 0.0,
}


@pytest.mark.parametrize("kind", ["grpo", "dapo", "dr_grpo", "bnpo"])
def test_on_policy_both_levels_of_the_ratio_have_the_same_gradient(kind):
    gradients = []
    for level in ("token", "sequence"):
        new = NEW.clone().requires_grad_()
        losses, _ = policy_losses(new, torch.tensor([2.0, -1.0]), MASK, ratio=level, **PLAIN)
        unnormalised_loss(losses, MASK, kind, 4).backward()
        gradients.append(new.grad)
    torch.testing.assert_close(*gradients)


def test_importance_weights_are_truncated_constants():
    new = NEW.clone().requires_grad_()
    token = importance_weights(new, OLD, MASK, "token", cap=1.2)
    assert token[0].tolist() == pytest.approx([1.2, 1.0, math.exp(-0.6)]) and token[
        1, 0
    ] == pytest.approx(1.2)
    sequence = importance_weights(new, OLD, MASK, "sequence", cap=1.2)
    assert sequence.shape == (2, 1) and sequence[:, 0].tolist() == pytest.approx(
        [math.exp(-0.3), 1.2]
    )
    assert not token.requires_grad and not sequence.requires_grad


def test_importance_weights_scale_the_surrogate_and_not_the_kl_term():
    new = NEW.clone().requires_grad_()
    weights = importance_weights(new, OLD, MASK, "sequence", cap=1.2)
    asked = {**PLAIN, "ref_logprobs": OLD, "kl_beta": 0.5}
    losses, found = policy_losses(new, torch.tensor([2.0, -1.0]), MASK, weights=weights, **asked)
    expected = torch.tensor([[-2.0], [1.0]]) * weights + 0.5 * k3(new, OLD)
    torch.testing.assert_close(losses, expected)
    assert torch.equal(found["importance"][:, 0], weights[:, 0])


def test_the_configuration_decides_what_stale_samples_are_compared_with():
    """At staleness 1: a clipped, truncated ratio; with a correction: ratio 1 and a weight. At 0
    nothing, by default.
    """
    behaviour = (-1.0, -3.0)
    sample = TrainSample("a", "a", (1,), (2, 3), advantage=1.0, behaviour=behaviour)
    batch, logprobs = collate(own_rows([sample]), ["a"], 9, 0), torch.tensor([[-1.5, -1.0]])

    def losses(**settings):
        config = Config(max_staleness=settings.pop("staleness", 1))
        for name, value in settings.items():
            setattr(config.learner, name, value)
        return grpo_losses(logprobs, batch, None, config)[0][0].tolist()

    assert losses(staleness=0) == [-1.0, -1.0]
    assert losses() == pytest.approx([-math.exp(-0.5), -1.2])
    assert losses(ratio="sequence") == pytest.approx([-1.2, -1.2])  # e^0.75
    assert losses(importance="token") == pytest.approx([-math.exp(-0.5), -2.0])
    assert losses(importance="sequence") == pytest.approx([-2.0, -2.0])
    assert losses(importance="token", staleness=0) == pytest.approx([-math.exp(-0.5), -2.0])
    silent = collate(own_rows([TrainSample("a", "a", (1,), (2, 3))]), ["a"], 9, 0)
    with pytest.raises(InfraError, match="no log-probabilities"):
        grpo_losses(logprobs, silent, None, Config(max_staleness=1))


@pytest.mark.parametrize("kind", ["grpo", "dapo", "dr_grpo", "bnpo"])
def test_a_sequence_that_does_not_count_adds_nothing(kind):
    mask = MASK.clone()
    mask[1] = 0
    alone = unnormalised_loss(TOKENS[:1], MASK[:1], kind, 3)
    assert torch.equal(unnormalised_loss(TOKENS, mask, kind, 3), alone)
    assert normaliser(kind, 0, 0, 8, 0) > 0


def test_every_loss_can_be_chosen():
    from typing import get_args, get_type_hints

    from geoagent_rl.config import LearnerConfig
    from geoagent_rl.grpo.loss import LOSSES

    assert get_args(get_type_hints(LearnerConfig)["loss"]) == tuple(LOSSES)
