"""Plans and collation: everything is learnt once, ranks stay in step, image and token types follow
their sample.
"""

from dataclasses import replace

import pytest
import torch

from geoagent_rl.grpo.batching import (
    TrainSample,
    collate,
    micro_batches,
    plan,
    rows_of,
    train_samples,
)
from geoagent_rl.types import Group, Outcome, Prompt, Rollout, ScoredRollout, Truth

IMAGE, PAD = 9, 0


def sample(n: int, m: int = 2, image: str = "a") -> TrainSample:
    return TrainSample(
        f"s{n}.{m}", image, (1, IMAGE, IMAGE, *range(10, 10 + n)), tuple(range(20, 20 + m)), 0.5
    )


def test_every_sample_is_planned_once_and_ranks_have_equal_numbers_of_batches():
    samples = [sample(n) for n in range(1, 12)]
    for ranks in (1, 2, 3, 4, 16):
        plans = plan(samples, ranks, token_budget=30)
        assert len({len(batches) for batches in plans}) == 1
        learnt = [s.uid for batches in plans for batch in batches for s in batch if s.weight]
        assert sorted(learnt) == sorted(s.uid for s in samples)
        assert all(batch for batches in plans for batch in batches)


def test_micro_batches_keep_the_budget_and_truncate_nothing():
    samples = [sample(n) for n in (1, 50, 3, 2, 9)]
    batches = micro_batches(samples, token_budget=30)
    assert sum(map(len, batches)) == 5
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(s.length for s in batch) <= 30


def test_no_samples_no_batches():
    assert plan([], 2, 100) == [[], []]


def test_collation():
    batch = collate([sample(1, 3, "b"), sample(3, 1, "a")], ["a", "b"], IMAGE, PAD)
    assert batch.input_ids.tolist() == [[1, 9, 9, 10, 20, 21, 22], [1, 9, 9, 10, 11, 12, 20]]
    assert batch.attention_mask.tolist() == [[1] * 7, [1] * 7]
    assert batch.image_index.tolist() == [1, 0]
    assert batch.completion_mask.tolist() == [[True] * 3, [True, False, False]]
    for row in range(2):  # the token at a position is predicted one place before it
        n = batch.completion_mask[row].sum()
        assert torch.equal(
            batch.input_ids[row][batch.positions[row, :n] + 1], batch.targets[row, :n]
        )


def test_completions_of_one_prompt_share_a_row():
    first, second, other = sample(1, 3), sample(1, 2), sample(2, 1)
    batch = collate(
        [first, other, second], ["a"], IMAGE, PAD, balance=3
    )  # sqrt(4 * 7): 5 tokens of completions
    assert batch.input_ids.tolist() == [
        [1, 9, 9, 10, 20, 21, 22, 20, 21],
        [1, 9, 9, 10, 11, 20, 0, 0, 0],
    ]
    assert batch.segments.tolist() == [[0, 0, 0, 0, 1, 1, 1, 2, 2], [0, 0, 0, 0, 0, 1, -1, -1, -1]]
    assert batch.offsets[0].tolist() == [0] * 4 + [0, 1, 2, 0, 1]
    assert batch.row.tolist() == [0, 1, 0] and batch.shared and batch.image_index.tolist() == [0, 0]
    assert batch.positions.tolist() == [
        [3, 4, 5],
        [4, 0, 0],
        [3, 7, 0],
    ]  # the prompt's end predicts both first tokens
    assert (
        len(collate([first, other, second], ["a"], IMAGE, PAD, balance=2).input_ids) == 3
    )  # sqrt(24) < 5
    elsewhere = replace(second, image="b")
    assert not collate([first, elsewhere], ["a", "b"], IMAGE, PAD, balance=100).shared


@pytest.mark.parametrize(
    ("prompt", "completion", "balance"), [(1124, 300, 32_512), (40, 70, 768), (600, 1000, 32_512)]
)
def test_rows_are_as_long_as_is_cheapest(prompt, completion, balance):
    """No other number of completions in a row costs less per completion by more than a tenth."""
    samples = [
        TrainSample("u", "a", tuple(range(prompt)), tuple(range(completion))) for _ in range(64)
    ]
    chosen = max(map(len, rows_of(samples, balance)))

    def cost(k: int) -> float:
        length = prompt + k * completion
        return length * (length + balance) / k

    assert cost(chosen) <= 1.1 * min(map(cost, range(1, 65)))


def test_shared_rows_count_their_prompt_once_in_the_budget():
    samples = [sample(40, m) for m in (5, 6, 7, 8)]  # prompts of 43 tokens
    assert [len(b) for b in micro_batches(samples, 100, balance=100)] == [4]
    assert [len(b) for b in micro_batches(samples, 100)] == [1, 2, 1]


def test_padding_is_masked_and_has_no_image_type():
    batch = collate(
        [sample(1, 1), sample(5, 4)], ["a"], IMAGE, pad_id=IMAGE
    )  # the worst pad there could be
    assert batch.attention_mask[0].tolist() == [1] * 5 + [0] * 7
    assert batch.mm_token_type_ids[0].tolist() == [0, 1, 1] + [0] * 9
    assert batch.mask.sum() == 5


def test_unscorable_samples_are_left_out():
    rollout = Rollout("u", 0, (1,), (2, 3), (-1.0, -2.0), "", "stop", 0)
    good = ScoredRollout(rollout, {}, 1.0)
    bad = ScoredRollout(rollout, {"spatial": Outcome("infra", None)}, None)
    group = Group(Prompt("u", "a", Truth("", "", "", 0, 0)), (good, bad, good), (0.5, 0.0, -0.5))
    assert [s.advantage for s in train_samples(group)] == [0.5, -0.5]
    assert train_samples(group)[0].behaviour == (-1.0, -2.0)


def test_the_finish_reason_says_who_was_cut_off():
    rollouts = [
        Rollout("u", i, (1,), (2, 3), (), "", reason, 0)
        for i, reason in enumerate(("stop", "length"))
    ]
    samples = tuple(ScoredRollout(r, {}, 1.0) for r in rollouts)
    group = Group(Prompt("u", "a", Truth("", "", "", 0, 0)), samples, (0.0, 0.0))
    assert [s.truncated for s in train_samples(group)] == [False, True]
