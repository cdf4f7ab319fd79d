"""From samples to micro-batches: which completions stand behind one copy of their prompt, which
prompts stand in one row, which rows make one forward pass, and where everything is in it.

A block is one prompt and some of its completions; a row holds one or more blocks. A plan is a pure
function of the samples and the layout. May know nothing of models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations, product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoagent_rl.grpo.samples import TrainSample, by_prompt

Block = Sequence[TrainSample]
Row = Sequence[Block]
Filling = list[tuple[list[Block], int]]  # rows of a micro-batch under way, with their tokens


@dataclass(frozen=True, slots=True)
class Layout:
    """How completions are laid out in rows of tokens.

    budget: tokens of a micro-batch, padding included. balance: the length of a row at which its
    attention costs as much as its linear layers, see policy.rows.attention_balance. share:
    completions of one prompt stand behind one copy of it. packed: attention costs nothing where it
    sees nothing (flex attention), so a micro-batch is one row without padding. multiple: of which
    row lengths are."""

    budget: int
    balance: int
    share: bool = True
    packed: bool = False
    multiple: int = 1

    def room(self, prompt: int) -> int:
        """Return how many tokens of completions stand behind a prompt of so many tokens.

        With attention over the whole square of a row, k completions of C tokens behind a prompt of
        P cost (P + kC)(P + kC + balance) / k each, least where kC = sqrt(P (P + balance))."""
        left = self.budget - prompt
        return left if self.packed else min(left, math.isqrt(prompt * (prompt + self.balance)))

    def rounded(self, length: int) -> int:
        """Return the length of a row that holds so many tokens."""
        return -(-length // self.multiple) * self.multiple


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """Where a block lies in a micro-batch: tokens start .. stop of `row` are its prompt, each pair
    of `completions` the tokens of one completion. image: a place in the caller's list.
    """

    row: int
    start: int
    stop: int
    completions: tuple[tuple[int, int], ...]
    image: int


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """B completions in R rows, padded on the right to L tokens; T is the longest completion, N the
    number of completion tokens, M of image tokens."""

    input_ids: Tensor  # [R, L] int64
    documents: Tensor  # [R, L] int32: which block of its row a token belongs to, -1 on padding
    segments: Tensor  # [R, L] int32: 0 in prompts; completions of a row are numbered from 1; -1
    image_places: Tensor  # [M] int64: of the image tokens in R * L
    places: Tensor  # [N] int64: where in R * L each completion token is predicted
    slots: Tensor  # [N] int64: the token's place in B * T
    targets: Tensor  # [B, T] int64
    completion_mask: Tensor  # [B, T] bool: tokens of the completion, the end token included
    weights: Tensor  # [B] float32
    advantages: Tensor  # [B] float32
    behaviour: Tensor | None  # [B, T] float32
    blocks: tuple[BlockPlace, ...]  # in the order of the rows

    @property
    def plain(self) -> bool:
        """Say whether every row is one prompt with one completion: what causal attention is made
        for."""
        return len(self.blocks) == len(self.input_ids) == len(self.weights)

    @property
    def attention_mask(self) -> Tensor:
        """Return [R, L] int64, 0 on padding."""
        return (self.segments >= 0).long()

    @property
    def mask(self) -> Tensor:
        """Return [B, T] float32: what counts in the loss."""
        return self.completion_mask * self.weights.unsqueeze(-1)

    def to(self, device: torch.device) -> MicroBatch:
        """Return it with its tensors on `device`."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, Tensor):
                values[name] = to_device(value, device)
        return MicroBatch(**values)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a copy on `device`; to a GPU through pinned memory, so that nobody waits."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def block_length(block: Block) -> int:
    """Return the tokens of a prompt and its completions."""
    return len(block[0].prompt_ids) + sum(len(s.completion_ids) for s in block)


def row_length(row: Row) -> int:
    """Return the tokens of a row, without padding."""
    return sum(map(block_length, row))


def padded_tokens(rows: Sequence[Row], layout: Layout) -> int:
    """Return the tokens of one forward pass over the rows."""
    return len(rows) * layout.rounded(max(map(row_length, rows)))


def blocks_of(samples: Sequence[TrainSample], layout: Layout) -> list[list[TrainSample]]:
    """Put completions behind copies of their prompts: as few copies as there is room for, and
    blocks of about one length. A completion that is longer than the room has a block of its own:
    nothing is cut."""
    blocks = []
    for group in by_prompt(samples, layout.share):
        ordered = sorted(group, key=lambda s: -len(s.completion_ids))
        room = max(1, layout.room(len(group[0].prompt_ids)))
        number = -(-sum(len(s.completion_ids) for s in group) // room)
        while (found := spread(ordered, min(number, len(group)), room)) is None:
            number += 1
        if layout.packed:  # else rows of one length matter more than what rounding adds
            exchange(found, room, layout)
        blocks += found
    return blocks


def exchange(blocks: list[list[TrainSample]], room: int, layout: Layout) -> None:
    """Exchange completions between blocks of one prompt where their rounded lengths shrink: of each
    pair of blocks the two whose exchange saves most."""
    prompt = len(blocks[0][0].prompt_ids)
    used = [block_length(block) - prompt for block in blocks]

    def cost(tokens: int) -> int:
        return layout.rounded(prompt + tokens) if tokens <= room else 2 * layout.budget

    for (i, one), (j, two) in combinations(enumerate(blocks), 2):
        best, now = None, cost(used[i]) + cost(used[j])
        for (m, a), (n, b) in product(enumerate(one), enumerate(two)):
            more = len(b.completion_ids) - len(a.completion_ids)
            then = cost(used[i] + more) + cost(used[j] - more)
            if then < now:
                best, now = (m, n, more), then
        if best is not None:
            m, n, more = best
            one[m], two[n] = two[n], one[m]
            used[i], used[j] = used[i] + more, used[j] - more


def spread(
    ordered: Sequence[TrainSample], number: int, room: int
) -> list[list[TrainSample]] | None:
    """Give each sample to the emptiest of `number` blocks; None where one lacks the room."""
    blocks: list[list[TrainSample]] = [[] for _ in range(number)]
    used = [0] * number
    for s in ordered:
        i = used.index(min(used))
        if blocks[i] and used[i] + len(s.completion_ids) > room:
            return None
        blocks[i].append(s)
        used[i] += len(s.completion_ids)
    return blocks


def micro_batches(samples: Sequence[TrainSample], layout: Layout) -> list[list[list[Block]]]:
    """Return the rows of each forward pass: blocks, the longest first, fill up the first row with
    room, else begin a row within the budget, else a micro-batch.

    A row is as long as the first block of its micro-batch, or as the budget where rows are packed.
    A block longer than the budget gets a micro-batch of its own. With share False no row has two
    blocks: every row is one sequence."""
    batches: list[Filling] = []
    for block in sorted(blocks_of(samples, layout), key=lambda b: -block_length(b)):
        n = block_length(block)
        place = find_row(batches, n, layout) if layout.share else None
        if place is not None:
            batch, i = place
            row, used = batch[i]
            row.append(block)
            batch[i] = row, used + n
            continue
        for batch in [] if layout.packed else batches:
            if (len(batch) + 1) * layout.rounded(batch[0][1]) <= layout.budget:
                batch.append(([block], n))
                break
        else:
            batches.append([([block], n)])
    return [[row for row, _ in batch] for batch in batches]


def find_row(batches: Sequence[Filling], n: int, layout: Layout) -> tuple[Filling, int] | None:
    """Return (micro-batch, row number) of the first row that has room for n tokens."""
    for batch in batches:
        width = layout.budget if layout.packed else batch[0][1]
        for i, (_, used) in enumerate(batch):
            if used + n <= width:
                return batch, i
    return None


def own_rows(samples: Sequence[TrainSample]) -> list[list[Block]]:
    """Put every completion behind a prompt of its own, in a row of its own."""
    return [[[s]] for s in samples]


def filler(samples: Sequence[TrainSample]) -> list[list[Block]]:
    """Return a micro-batch of weight 0, as small as the samples allow, for a rank that must keep in
    step with others."""
    return own_rows([replace(min(samples, key=lambda s: s.length), weight=0.0)])


def collate(
    rows: Sequence[Row],
    images: Sequence[str],
    image_token_id: int,
    pad_id: int,
    multiple: int = 1,
) -> MicroBatch:
    """Make tensors of rows of blocks. The completions keep the order in which they stand in the
    rows.

    images: the caller's images, in the order of its features; every sample's image must be among
    them. multiple: of which L is."""
    samples = [s for row in rows for block in row for s in block]
    size, longest = len(samples), max(len(s.completion_ids) for s in samples)
    length = -(-max(map(row_length, rows)) // multiple) * multiple
    ids = np.full((len(rows), length), pad_id, np.int64)
    documents = np.full((len(rows), length), -1, np.int32)
    segments = documents.copy()
    counts = np.zeros((size, longest), np.bool_)
    targets = np.zeros((size, longest), np.int64)
    known = all(s.behaviour is not None for s in samples)
    behaviour = np.zeros((size, longest), np.float32)
    blocks, places, slots, i = [], [], [], 0
    for r, row in enumerate(rows):
        end = segment = 0
        for document, block in enumerate(row):
            prompt = block[0].prompt_ids
            start, stop = end, end + len(prompt)
            ids[r, start:stop], segments[r, start:stop] = prompt, 0
            end, spans = stop, []
            for s in block:
                n, segment = len(s.completion_ids), segment + 1
                ids[r, end : end + n] = targets[i, :n] = s.completion_ids
                segments[r, end : end + n], counts[i, :n] = segment, True
                predicted = np.arange(r * length + end - 1, r * length + end + n - 1)
                predicted[0] = r * length + stop - 1  # a prompt's end predicts all its completions
                places.append(predicted)
                slots.append(np.arange(i * longest, i * longest + n))
                if known:
                    behaviour[i, :n] = s.behaviour
                spans.append((end, end + n))
                end, i = end + n, i + 1
            documents[r, start:end] = document
            image = images.index(block[0].image)
            blocks.append(BlockPlace(r, start, stop, tuple(spans), image))
    shown = (ids == image_token_id) & (segments == 0)
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        documents=torch.from_numpy(documents),
        segments=torch.from_numpy(segments),
        image_places=torch.from_numpy(np.flatnonzero(shown)),
        places=torch.from_numpy(np.concatenate(places)),
        slots=torch.from_numpy(np.concatenate(slots)),
        targets=torch.from_numpy(targets),
        completion_mask=torch.from_numpy(counts),
        weights=torch.tensor([s.weight for s in samples]),
        advantages=torch.tensor([s.advantage for s in samples]),
        behaviour=torch.from_numpy(behaviour) if known else None,
        blocks=tuple(blocks),
    )
