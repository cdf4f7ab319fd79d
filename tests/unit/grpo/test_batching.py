"""Rows and collation: everything is learnt once, budgets hold, tokens, masks and images follow
their sample.
"""

import random
from dataclasses import replace

import pytest

from geoagent_rl.grpo.batching import (
    BlockPlace,
    Layout,
    blocks_of,
    collate,
    filler,
    micro_batches,
    own_rows,
    padded_tokens,
    row_length,
)
from geoagent_rl.grpo.samples import TrainSample, train_group
from geoagent_rl.types import Group, Outcome, Prompt, Rollout, ScoredRollout, Truth

IMAGE, PAD = 9, 0


def sample(n: int, m: int = 2, image: str = "a") -> TrainSample:
    return TrainSample(
        f"s{n}.{m}", image, (1, IMAGE, IMAGE, *range(10, 10 + n)), tuple(range(20, 20 + m)), 0.5
    )


def learnt(batches) -> list[str]:
    return sorted(s.uid for rows in batches for row in rows for block in row for s in block)


LAYOUTS = [
    Layout(30, 800),
    Layout(30, 800, share=False),
    Layout(64, 800, packed=True, multiple=8),
    Layout(1, 1),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_sample_is_planned_once_within_the_budget(layout):
    samples = [sample(n, m) for n in range(1, 9) for m in (1, 4, 9)]
    batches = micro_batches(samples, layout)
    assert learnt(batches) == sorted(s.uid for s in samples)
    for rows in batches:
        alone = len(rows) == len(rows[0]) == len(rows[0][0]) == 1  # too long: never cut
        assert alone or padded_tokens(rows, layout) <= layout.budget
        assert not layout.packed or len(rows) == 1
        assert layout.share or all(len(row) == len(row[0]) == 1 for row in rows)


def test_no_samples_no_batches():
    assert micro_batches([], LAYOUTS[0]) == []


def test_collation():
    batch = collate(own_rows([sample(1, 3, "b"), sample(3, 1, "a")]), ["a", "b"], IMAGE, PAD)
    assert batch.input_ids.tolist() == [[1, 9, 9, 10, 20, 21, 22], [1, 9, 9, 10, 11, 12, 20]]
    assert batch.attention_mask.tolist() == [[1] * 7, [1] * 7]
    assert [block.image for block in batch.blocks] == [1, 0] and batch.plain
    assert batch.image_places.tolist() == [1, 2, 8, 9]
    assert batch.completion_mask.tolist() == [[True] * 3, [True, False, False]]
    # the token at a position is predicted one place before it
    predicted = batch.input_ids.flatten()[batch.places + 1]
    assert predicted.tolist() == batch.targets.flatten()[batch.slots].tolist() == [20, 21, 22, 20]


def test_prompts_and_their_completions_share_a_row():
    first, second, other = sample(1, 3), sample(1, 2), sample(2, 1)
    batch = collate([[[first, second], [other]]], ["a"], IMAGE, PAD, multiple=8)
    ids = [1, 9, 9, 10, 20, 21, 22, 20, 21, 1, 9, 9, 10, 11, 20]
    assert batch.input_ids.tolist() == [[*ids, PAD]]
    assert batch.documents.tolist() == [[0] * 9 + [1] * 6 + [-1]]
    assert batch.segments.tolist() == [[0] * 4 + [1, 1, 1, 2, 2] + [0] * 5 + [3, -1]]
    assert batch.blocks == (
        BlockPlace(0, 0, 4, ((4, 7), (7, 9)), 0),
        BlockPlace(0, 9, 14, ((14, 15),), 0),
    )
    # a prompt's end predicts the first tokens of all its completions
    assert batch.places.tolist() == [3, 4, 5, 3, 7, 13] and not batch.plain
    assert batch.slots.tolist() == [0, 1, 2, 3, 4, 6]


def test_only_completions_of_one_prompt_stand_behind_it():
    first, second = sample(1, 3), sample(1, 2)
    share = Layout(100, 100)
    assert len(blocks_of([first, second], share)) == 1
    assert len(blocks_of([first, replace(second, image="b")], share)) == 2
    assert len(blocks_of([first, sample(2, 2)], share)) == 2
    assert len(blocks_of([first, second], replace(share, share=False))) == 2


@pytest.mark.parametrize(
    ("prompt", "completion", "balance"), [(1124, 300, 32_512), (40, 70, 768), (600, 1000, 32_512)]
)
def test_masked_rows_are_as_long_as_is_cheapest(prompt, completion, balance):
    """No other number of completions in a row costs less per completion by more than a tenth."""
    samples = [
        TrainSample("u", "a", tuple(range(prompt)), tuple(range(completion))) for _ in range(64)
    ]
    chosen = max(map(len, blocks_of(samples, Layout(10**6, balance))))

    def cost(k: int) -> float:
        length = prompt + k * completion
        return length * (length + balance) / k

    assert cost(chosen) <= 1.1 * min(map(cost, range(1, 65)))


def test_shared_rows_count_their_prompt_once_in_the_budget():
    samples = [sample(40, m) for m in (5, 6, 7, 8)]  # prompts of 43 tokens
    assert len(micro_batches(samples, Layout(100, 100))) == 1
    assert len(micro_batches(samples, Layout(100, 100, share=False))) == 3


def test_short_blocks_fill_what_the_longest_leaves_empty():
    samples = [sample(40, 8), sample(10, 8), sample(12, 8)]  # blocks of 51, 21 and 23 tokens
    (rows,) = micro_batches(samples, Layout(102, 1))
    assert [len(row) for row in rows] == [1, 2] and padded_tokens(rows, Layout(102, 1)) == 102


@pytest.mark.parametrize("budget", [2048, 4096, 8192])
def test_packed_rows_have_little_padding(budget):
    """A group at a time, rows of whole blocks of 128 tokens: at most 3 % of padding."""
    rng, layout = random.Random(0), Layout(budget, 32_512, packed=True, multiple=128)
    passed = wanted = 0
    for number in range(60):
        lengths = [min(1024, int(600 * rng.lognormvariate(-0.06, 0.35))) for _ in range(8)]
        group = [TrainSample(f"{number}/{n}", "a", range(400), range(n)) for n in lengths]
        for rows in micro_batches(group, layout):
            passed += padded_tokens(rows, layout)
            wanted += sum(row_length(row) for row in rows)
            assert padded_tokens(rows, layout) <= budget
    assert passed <= 1.03 * wanted


def test_padding_is_masked_and_has_no_image():
    batch = collate(
        own_rows([sample(1, 1), sample(5, 4)]), ["a"], IMAGE, pad_id=IMAGE
    )  # the worst pad there could be
    assert batch.attention_mask[0].tolist() == [1] * 5 + [0] * 7
    assert batch.image_places.tolist() == [1, 2, 13, 14]
    assert batch.mask.sum() == 5


def test_a_filler_is_small_and_weighs_nothing():
    batch = collate(filler([sample(5), sample(1)]), ["a"], IMAGE, PAD)
    assert batch.input_ids.shape == (1, 6) and batch.mask.sum() == 0


def group_of(*scored: ScoredRollout, advantages: tuple[float, ...]) -> Group:
    return Group(Prompt("u", "a", Truth("", "", "", 0, 0)), scored, advantages)


def test_unscorable_samples_are_left_out():
    rollout = Rollout("u", 0, (1,), (2, 3), (-1.0, -2.0), "", "stop", 0)
    good = ScoredRollout(rollout, {}, 1.0)
    bad = ScoredRollout(rollout, {"spatial": Outcome("infra", None)}, None)
    found = train_group(group_of(good, bad, good, advantages=(0.5, 0.0, -0.5))).samples()
    assert [s.advantage for s in found] == [0.5, -0.5]
    assert found[0].behaviour.tolist() == [-1.0, -2.0]
    assert train_group(group_of(bad, advantages=(0.0,))).samples() == []


def test_the_finish_reason_says_who_was_cut_off():
    scored = [
        ScoredRollout(Rollout("u", i, (1,), (2, 3), (), "", reason, 0), {}, 1.0)
        for i, reason in enumerate(("stop", "length"))
    ]
    found = train_group(group_of(*scored, advantages=(0.0, 0.0))).samples()
    assert [s.truncated for s in found] == [False, True]
    assert [s.behaviour for s in found] == [None, None]
