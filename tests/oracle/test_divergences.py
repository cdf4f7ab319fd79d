"""What differs from TRL on purpose: each test shows TRL's behaviour and ours. docs/learner.md has
the same list.
"""

from dataclasses import replace

import pytest
import torch
import trl

from geoagent_rl.config import Config
from geoagent_rl.grpo.advantages import group_advantages
from geoagent_rl.grpo.batching import collate, own_rows
from geoagent_rl.grpo.loss import normaliser, policy_losses, unnormalised_loss
from geoagent_rl.grpo.samples import train_group
from geoagent_rl.policy.prompt import banned_ids
from geoagent_rl.types import Group, Outcome, Prompt, Rollout, ScoredRollout, Truth
from tests.support.trl_harness import (
    compare,
    forward,
    gradients,
    sampled,
    samples,
    their_logprobs,
    trainer,
    trl_inputs,
)

pytestmark = pytest.mark.timeout(120)
ON_POLICY = {"clip_low": 0.2, "clip_high": 0.2, "ratio_cap": 2.0, "old_logprobs": None}


def ready(policy, tmp_path, rewards, **settings):
    """TRL's trainer, able to compute one loss; `rewards` for every group."""
    oracle = trainer(
        policy, lambda completions, **_: rewards[: len(completions)], tmp_path, **settings
    )
    oracle.current_gradient_accumulation_steps = 1
    return oracle


def test_divergence_float_noise_makes_no_advantage_here(policy, tmp_path):
    noisy = [1.0, 1.0 + 3e-7, 1.0, 1.0]
    oracle = ready(policy, tmp_path, noisy)
    assert sampled(oracle, [[65, 66]] * 4)["advantages"].abs().max() > 1e-3
    assert group_advantages(noisy) == [0.0] * 4


def test_divergence_a_partly_failed_sample_is_left_out_here(policy, tmp_path):
    """TRL adds up the parts that are there, so an outage looks like a bad answer; here the total is
    None.
    """
    parts = [[1.0, 1.0, 1.0, 2.0], [1.0, 1.0, None, 1.0]]
    functions = [lambda completions, values=values, **_: values for values in parts]
    advantages = sampled(trainer(policy, functions, tmp_path), [[65, 66]] * 4)[
        "advantages"
    ].tolist()
    assert advantages[2] < -0.5
    ours = group_advantages([2.0, 2.0, None, 3.0])
    assert ours[2] == 0 and ours == pytest.approx(
        [*group_advantages([2.0, 2.0, 3.0])[:2], 0.0, ours[3]]
    )


def test_divergence_an_unscorable_sample_leaves_loss_and_divisor_here(policy, tmp_path):
    """TRL gives it advantage 0 and still divides by it: an outage would shrink the step. Here it
    was never there.
    """
    model, processor = policy
    totals, completions = [None, 1.0, 2.0, 4.0], [[65, 66], [67, 68, 69], [70], [71, 72]]
    oracle = ready(policy, tmp_path, totals, loss_type="grpo", temperature=1.0)
    oracle._compute_loss(oracle.model, sampled(oracle, completions)).backward()
    theirs = gradients(model)

    rollouts = [
        Rollout("u", i, (5, 6, 7), tuple(ids), (), "", "stop", 0)
        for i, ids in enumerate(completions)
    ]
    scored = [ScoredRollout(r, {}, total) for r, total in zip(rollouts, totals, strict=True)]
    scored[0] = replace(scored[0], parts={"spatial": Outcome("infra", None)})
    group = Group(
        Prompt("u", "", Truth("", "", "", 0, 0)), tuple(scored), tuple(group_advantages(totals))
    )
    rows = train_group(group).samples()
    batch = collate(
        own_rows(rows), [""], model.network.config.image_token_id, processor.tokenizer.pad_token_id
    )
    losses, _ = policy_losses(
        model(batch, (), None)[0],
        batch.advantages,
        batch.mask,
        ref_logprobs=None,
        kl_beta=0.0,
        **ON_POLICY,
    )
    (
        unnormalised_loss(losses, batch.mask, "grpo") / normaliser("grpo", len(rows), 0.0, 12)
    ).backward()
    assert len(rows) == 3
    compare(gradients(model), {name: gradient * 4 / 3 for name, gradient in theirs.items()})


def test_divergence_kl_is_the_plain_k3_here(policy, tmp_path):
    """TRL by default multiplies the KL term by the policy ratio (use_bias_correction_kl); the paper
    does not.
    """
    model, processor = policy
    rows, pictures = samples(processor, 5)
    tokens = model.network.config.image_token_id, processor.tokenizer.pad_token_id
    batch = collate(own_rows(rows), list(pictures), *tokens)
    inputs = trl_inputs(batch, rows, pictures, *tokens)
    inputs["ref_per_token_logps"] = forward(model, batch, pictures, 1.0, reference=True)[0].detach()
    found = {}
    for corrected in (trl.GRPOConfig.use_bias_correction_kl, False):
        oracle = ready(
            policy,
            tmp_path,
            [0.0] * 4,
            loss_type="grpo",
            use_bias_correction_kl=corrected,
            temperature=1.0,
        )
        oracle.beta = 5.0
        oracle._compute_loss(oracle.model, inputs).backward()
        found[corrected] = gradients(model)
    logprobs = forward(model, batch, pictures, 1.0)[0]
    references = {"ref_logprobs": inputs["ref_per_token_logps"], "kl_beta": 5.0}
    losses, _ = policy_losses(logprobs, batch.advantages, batch.mask, **references, **ON_POLICY)
    (unnormalised_loss(losses, batch.mask, "grpo") / len(rows)).backward()
    ours = gradients(model)
    compare(ours, found[False])
    with pytest.raises(AssertionError):
        compare(ours, found[True])


def test_divergence_bnpo_is_local_to_the_group_here(policy, tmp_path):
    """TRL's token mean is over the micro-batch, so its step depends on how the batch is cut; ours
    does not (test_split_invariance) and equals TRL's where TRL's micro-batch is the group
    (test_trl)."""
    model, processor = policy
    rows, pictures = samples(processor, 1)
    tokens = model.network.config.image_token_id, processor.tokenizer.pad_token_id
    oracle = ready(policy, tmp_path, [0.0] * 4, loss_type="bnpo", temperature=1.0)
    found = []
    for size in (4, 2):
        oracle.current_gradient_accumulation_steps = 4 // size
        for part in (rows[i : i + size] for i in range(0, 4, size)):
            batch = collate(own_rows(part), list(pictures), *tokens)
            oracle._compute_loss(
                oracle.model, trl_inputs(batch, part, pictures, *tokens)
            ).backward()
        found.append(gradients(model))
    with pytest.raises(AssertionError):
        compare(found[0], found[1])


def test_divergence_banned_tokens_are_outside_the_distribution_here(policy, tmp_path):
    """Vision tokens cannot be sampled, so log-probabilities are those of the other tokens,
    renormalised.
    """
    model, processor = policy
    rows, pictures = samples(processor, 2)
    tokens = model.network.config.image_token_id, processor.tokenizer.pad_token_id
    batch, banned = (
        collate(own_rows(rows), list(pictures), *tokens),
        banned_ids(processor),
    )
    oracle = ready(policy, tmp_path, [0.0] * 4, temperature=0.7)
    theirs = their_logprobs(oracle, trl_inputs(batch, rows, pictures, *tokens))
    with torch.no_grad():
        ours = forward(model, batch, pictures, 0.7, banned=torch.tensor(banned))[0]
        lost = sum(
            forward(
                model, replace(batch, targets=torch.full_like(batch.targets, token)), pictures, 0.7
            )[0].exp()
            for token in banned
        )
    mask = batch.completion_mask
    assert lost[mask].min() > 1e-4
    torch.testing.assert_close(ours[mask], (theirs - torch.log1p(-lost))[mask], rtol=0, atol=2e-5)


def test_divergence_defaults():
    """Values, not behaviour: each of TRL's is one setting away."""
    theirs, ours = trl.GRPOConfig, Config().learner
    assert (theirs.loss_type, ours.loss) == ("dapo", "grpo")
    assert (theirs.beta, ours.kl_beta) == (0.0, 0.001)
    assert (theirs.delta, ours.ratio_cap) == (None, 2.0)
    assert theirs.vllm_importance_sampling_correction and ours.importance == "none"
    assert (theirs.vllm_importance_sampling_mode, theirs.epsilon, ours.clip_low) == (
        "sequence_mask",
        0.2,
        0.2,
    )
