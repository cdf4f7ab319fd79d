"""TRL as an independent oracle (test-only dependency): advantages, log-probabilities, losses and
their gradients.

TRL's own methods run on our random tiny policies with our tensors, left-padded as TRL does it:
every case on Qwen2.5-VL, one on each other family.
What differs on purpose is in test_divergences."""

import pytest
import torch
from trl.rewards import get_soft_overlong_punishment

from geoagent_rl.grpo.advantages import group_advantages, over_batch, part_advantages
from geoagent_rl.grpo.batching import collate, own_rows
from geoagent_rl.grpo.loss import importance_weights, normaliser, policy_losses, unnormalised_loss
from geoagent_rl.grpo.overlong import counted, soft_penalty
from geoagent_rl.grpo.samples import TrainSample
from geoagent_rl.policy.families import FAMILIES
from tests.support import tiny_families
from tests.support.trl_harness import (
    MAX_TOKENS,
    compare,
    gradients,
    same_loss_and_gradients,
    sampled,
    samples,
    trained_policy,
    trainer,
)

pytestmark = pytest.mark.timeout(120)

TABLE = [
    [0.1, 0.9, 0.4, 2.0],
    [0.0, 0.0, 0.0, 3.5],
    [1.0, None, 2.0, 4.0],  # every part failed: TRL too leaves the row out
    [None, None, 1.0, 1.5],
    [None, None, None, 3.0],  # a group of one: no advantage, where others give the raw reward
    [1.0, 1.0, 1.0, 1.0],
]


def test_advantages(policy, tmp_path):
    rows = iter(TABLE)
    oracle = trainer(policy, lambda completions, **_: next(rows), tmp_path)
    for totals in TABLE:
        out = sampled(oracle, [[65, 66]] * 4)
        assert group_advantages(totals) == pytest.approx(out["advantages"].tolist(), abs=1e-6)


# Two groups of four by two reward parts; None: the part failed, twice: the sample is unscorable.
PARTS = {
    "spatial": [0.1, 0.9, 0.4, 0.0, 1.0, None, 0.2, 0.7],
    "format": [1.0, 1.0, 0.0, 1.0, 0.0, None, None, 1.0],
}
WEIGHTS = {"spatial": 1.5, "format": 0.5}


def totals_of_parts() -> list[float | None]:
    """The weighted sums, as TRL takes them: a part that failed adds nothing."""
    samples = [
        dict(zip(PARTS, column, strict=True)) for column in zip(*PARTS.values(), strict=True)
    ]
    return [
        None
        if all(score is None for score in sample.values())
        else sum(WEIGHTS[name] * (score or 0.0) for name, score in sample.items())
        for sample in samples
    ]


def theirs(policy, tmp_path, **settings) -> list[float]:
    """TRL's advantages of the table above."""
    functions = [lambda completions, name=name, **_: PARTS[name] for name in PARTS]
    weights = list(WEIGHTS.values())
    oracle = trainer(
        policy,
        functions,
        tmp_path,
        per_device_train_batch_size=8,
        reward_weights=weights,
        **settings,
    )
    return sampled(oracle, [[65, 66]] * 8)["advantages"].tolist()


@pytest.mark.parametrize("scale", ["none", "batch"])
def test_advantages_by_scale(policy, tmp_path, scale):
    totals = totals_of_parts()
    groups = [totals[:4], totals[4:]]
    centred = [group_advantages(group, scaled=False) for group in groups]
    ours = sum(over_batch(scale, centred, groups), [])
    assert ours == pytest.approx(theirs(policy, tmp_path, scale_rewards=scale), abs=1e-6)


def test_gdpo_advantages(policy, tmp_path):
    totals = totals_of_parts()
    samples = [
        None if total is None else {name: column[i] for name, column in PARTS.items()}
        for i, total in enumerate(totals)
    ]
    summed = [part_advantages(samples[:4], WEIGHTS), part_advantages(samples[4:], WEIGHTS)]
    ours = sum(over_batch("gdpo", summed, [totals[:4], totals[4:]]), [])
    expected = theirs(policy, tmp_path, multi_objective_aggregation="normalize_then_sum")
    assert ours == pytest.approx(expected, abs=1e-6)


CASES = [
    # loss, level of the ratio, temperature, beta, old log-probabilities given, clip_high, ratio cap
    ("grpo", "token", 0.7, 0.0, False, 0.2, None),
    ("grpo", "token", 1.0, 0.04, True, 0.2, None),
    ("dapo", "token", 0.7, 0.04, True, 0.28, 2.0),
    ("dr_grpo", "token", 1.3, 0.001, False, 0.2, None),
    ("bnpo", "token", 0.7, 0.04, True, 0.28, 2.0),
    ("grpo", "sequence", 0.7, 0.04, True, 0.2, None),
    ("grpo", "sequence", 0.7, 0.0, False, 0.2, None),
    ("dapo", "sequence", 1.0, 0.0, True, 0.28, 1.5),
    ("bnpo", "sequence", 1.0, 0.04, True, 0.2, None),
]


@pytest.mark.parametrize(("kind", "level", "temperature", "beta", "stale", "high", "cap"), CASES)
def test_log_probabilities_loss_and_gradients(
    policy, tmp_path, kind, level, temperature, beta, stale, high, cap
):
    asked = {"loss_type": kind, "temperature": temperature, "epsilon_high": high, "delta": cap}
    asked["importance_sampling_level"] = level
    same_loss_and_gradients(policy, tmp_path, asked, beta, stale)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "qwen2_5_vl"])
def test_every_family_of_policies(tmp_path, family):
    policy = trained_policy(tiny_families.build(family, tmp_path / "model"))
    asked = {"loss_type": "grpo", "temperature": 0.7, "epsilon_high": 0.2, "delta": None}
    asked["importance_sampling_level"] = "token"
    same_loss_and_gradients(policy, tmp_path, asked, beta=0.04, stale=True)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_importance_correction(policy, tmp_path, level):
    """TRL's own weights, from log-probabilities that it recomputes itself, and its loss and
    gradients with them.
    """
    model, processor = policy
    cap, temperature = 2.0, 0.7
    settings = {"temperature": temperature, "vllm_importance_sampling_mode": f"{level}_truncate"}
    settings |= {"vllm_importance_sampling_clip_max": cap, "loss_type": "grpo"}
    oracle = trainer(policy, lambda completions, **_: [0.0, 1.0, 2.0, 4.0], tmp_path, **settings)
    oracle.use_vllm = True
    oracle.current_gradient_accumulation_steps = 1
    rows = [TrainSample(s.uid, "", (5, 6, 7), s.completion_ids) for s in samples(processor, 3)[0]]
    batch = collate(
        own_rows(rows), [""], model.network.config.image_token_id, processor.tokenizer.pad_token_id
    )
    mask = batch.completion_mask.float()
    logprobs, _ = model(batch, (), None, temperature)
    noise = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0))
    sampler = logprobs.detach() - torch.tensor([[0.8], [-0.2], [0.3], [-0.5]]) - 0.4 * noise
    lists = [row[keep].tolist() for row, keep in zip(sampler, batch.completion_mask, strict=True)]
    theirs = sampled(oracle, [list(s.completion_ids) for s in rows], lists)
    weights = importance_weights(logprobs, sampler, mask, level, cap)
    expected = theirs["importance_sampling_ratio"]
    assert expected.max() == cap and expected.min() < 1  # the cap matters
    torch.testing.assert_close(weights * mask, expected * mask, rtol=1e-4, atol=1e-6)

    oracle._compute_loss(oracle.model, theirs).backward()
    their_gradients = gradients(model)
    asked = {
        "ref_logprobs": None,
        "clip_low": 0.2,
        "clip_high": 0.2,
        "ratio_cap": cap,
        "kl_beta": 0.0,
    }
    losses, _ = policy_losses(
        logprobs, theirs["advantages"], mask, old_logprobs=None, weights=weights, **asked
    )
    (unnormalised_loss(losses, batch.mask, "grpo") / len(rows)).backward()
    compare(gradients(model), their_gradients)


@pytest.mark.parametrize("kind", ["grpo", "dapo", "dr_grpo", "bnpo"])
def test_masked_truncated_completions(policy, tmp_path, kind):
    """TRL decides by the last token, we by the finish reason; what leaves the loss and what divides
    it are the same.
    """
    model, processor = policy
    end = processor.tokenizer.eos_token_id
    completions = [[65, 66, end], [67] * MAX_TOKENS, [68, end], [69, 70, 71, end]]
    settings = {"loss_type": kind, "mask_truncated_completions": True, "temperature": 1.0}
    oracle = trainer(policy, lambda completions, **_: [0.0, 1.0, 2.0, 4.0], tmp_path, **settings)
    oracle.current_gradient_accumulation_steps = 1
    inputs = sampled(oracle, completions)
    theirs = oracle._compute_loss(oracle.model, inputs)
    theirs.backward()
    their_gradients = gradients(model)

    advantages = group_advantages([0.0, 1.0, 2.0, 4.0])
    rows = [
        TrainSample(str(i), "", (5, 6, 7), tuple(ids), a, truncated=ids[-1] != end)
        for i, (ids, a) in enumerate(zip(completions, advantages, strict=True))
    ]
    kept = counted(rows, "mask")
    batch = collate(
        own_rows(kept), [""], model.network.config.image_token_id, processor.tokenizer.pad_token_id
    )
    logprobs, _ = model(batch, (), None)
    asked = {
        "ref_logprobs": None,
        "clip_low": 0.2,
        "clip_high": 0.2,
        "ratio_cap": 2.0,
        "kl_beta": 0.0,
    }
    losses, _ = policy_losses(logprobs, batch.advantages, batch.mask, old_logprobs=None, **asked)
    tokens = float(batch.mask.sum())
    ours = unnormalised_loss(losses, batch.mask, kind, tokens) / normaliser(
        kind, len(rows), tokens, MAX_TOKENS
    )
    ours.backward()
    assert len(kept) == 3 and ours.item() == pytest.approx(theirs.item(), rel=1e-4, abs=1e-6)
    compare(gradients(model), their_gradients)


def test_soft_overlong_penalty():
    oracle = get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    lengths = range(0, 120, 3)
    assert [soft_penalty(n, 100, 0.2) for n in lengths] == pytest.approx(
        oracle([[1] * n for n in lengths])
    )
