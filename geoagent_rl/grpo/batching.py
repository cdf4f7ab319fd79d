"""From samples to padded micro-batches: who goes where, what counts, which image belongs to whom.

A plan is a pure function of the samples, the number of ranks and the token budget, so every rank
can compute all ranks' plans alone: each gets the same number of micro-batches (the short ones are
filled with copies of weight 0), and collective operations inside a forward pass (ZeRO-3) stay in
step. May know nothing of models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, arange

from geoagent_rl.types import Group


@dataclass(frozen=True, slots=True)
class TrainSample:
    """One sequence to learn from: one image, its prompt with image tokens expanded, and a
    completion.

    `behaviour` are the sampler's log-probabilities of the completion, None where it gave none.
    `weight` is 1.0, or 0.0 for a copy that only keeps ranks in step. `truncated`: the token limit
    cut it off."""

    uid: str
    image: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    advantage: float = 0.0
    behaviour: tuple[float, ...] | None = None
    weight: float = 1.0
    truncated: bool = False

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """B completions in R rows, padded on the right to L tokens; T is the longest completion.

    A row is one prompt and its completion, or several completions of that prompt one after the
    other (`shared`)."""

    input_ids: Tensor  # [R, L] int64
    segments: (
        Tensor  # [R, L] int64: 0 in the prompt, 1, 2, ... in the row's completions, -1 on padding
    )
    offsets: Tensor  # [R, L] int64: place within the completion, 0 elsewhere
    mm_token_type_ids: Tensor  # [R, L] int64, 1 on image tokens
    image_index: Tensor  # [R] int64: which of the caller's images each row shows
    row: Tensor  # [B] int64: which row each completion is in
    completion_mask: Tensor  # [B, T] bool: tokens of the completion, the end token included
    positions: Tensor  # [B, T] int64: where in its row's L the completion token is predicted
    targets: Tensor  # [B, T] int64
    weights: Tensor  # [B] float32
    advantages: Tensor  # [B] float32
    behaviour: Tensor | None  # [B, T] float32

    @property
    def shared(self) -> bool:
        """Whether a row has more than one completion."""
        return len(self.row) > len(self.input_ids)

    @property
    def attention_mask(self) -> Tensor:
        """[R, L] int64, 0 on padding."""
        return (self.segments >= 0).long()

    @property
    def mask(self) -> Tensor:
        """[B, T] float32: what counts in the loss."""
        return self.completion_mask * self.weights.unsqueeze(-1)

    def to(self, device: torch.device) -> MicroBatch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: t.to(device) for name, t in tensors.items() if t is not None})


def train_samples(group: Group) -> list[TrainSample]:
    """The scored samples of a group; unscorable and empty ones are left out of the loss
    altogether.
    """
    out = []
    for scored, advantage in zip(group.samples, group.advantages, strict=True):
        r = scored.rollout
        if scored.total is None or not r.completion_ids:
            continue
        behaviour = r.logprobs if len(r.logprobs) == len(r.completion_ids) else None
        sample = TrainSample(
            r.uid, group.prompt.image, r.prompt_ids, r.completion_ids, advantage, behaviour
        )
        out.append(replace(sample, truncated=r.finish_reason == "length"))
    return out


def rows_of(samples: Sequence[TrainSample], balance: int) -> list[list[int]]:
    """Places in `samples` of each row's completions: those of one prompt share rows, as many as is
    cheapest.

    balance: the length at which a row's attention (quadratic) costs as much as its linear layers;
    0: none share. With a prompt of P tokens and k completions of C, a completion's share of (P +
    kC)(P + kC + balance) / k is least where kC = sqrt(P (P + balance)): the completions of a row
    together grow no longer than that."""
    rows: list[list[int]] = []
    latest: dict[
        tuple[str, tuple[int, ...]], tuple[list[int], int]
    ] = {}  # a prompt's newest row and what is free
    for i, s in enumerate(samples):
        prompt, size, n = (s.image, s.prompt_ids), len(s.prompt_ids), len(s.completion_ids)
        row, room = latest.get(prompt, ([], 0))
        if n > room:
            row, room = [], math.isqrt(size * (size + balance)) if balance else 0
            rows.append(row)
        row.append(i)
        latest[prompt] = row, room - n
    return rows


def row_length(samples: Sequence[TrainSample], row: Sequence[int]) -> int:
    return len(samples[row[0]].prompt_ids) + sum(len(samples[i].completion_ids) for i in row)


def padded_tokens(samples: Sequence[TrainSample], balance: int) -> int:
    rows = rows_of(samples, balance)
    return len(rows) * max(row_length(samples, row) for row in rows)


def micro_batches(
    samples: Sequence[TrainSample], token_budget: int, balance: int = 0
) -> list[list[TrainSample]]:
    """Splits samples, longest first, so that padded tokens (rows x longest row) stay within the
    budget.

    A sample longer than the budget gets a micro-batch of its own: prompts are never truncated.
    """
    batches: list[list[TrainSample]] = []
    for sample in sorted(samples, key=lambda s: -s.length):
        if batches and padded_tokens([*batches[-1], sample], balance) <= token_budget:
            batches[-1].append(sample)
        else:
            batches.append([sample])
    return batches


def plan(
    samples: Sequence[TrainSample], ranks: int, token_budget: int, balance: int = 0
) -> list[list[list[TrainSample]]]:
    """Micro-batches of every rank; all ranks get the same number, filled up with weight-0 copies of
    the shortest.
    """
    ordered = sorted(samples, key=lambda s: -s.length)
    plans = [micro_batches(ordered[rank::ranks], token_budget, balance) for rank in range(ranks)]
    most = max(map(len, plans))
    if most:
        filler = [replace(ordered[-1], weight=0.0)]
        for batches in plans:
            batches += [filler] * (most - len(batches))
    return plans


def collate(
    samples: Sequence[TrainSample],
    images: Sequence[str],
    image_token_id: int,
    pad_id: int,
    balance: int = 0,
) -> MicroBatch:
    """Pads on the right; the multimodal token types are derived from the padded ids, so they cannot
    go astray.

    images: the caller's images, in the order of its features; every sample's image must be among
    them. balance: see `rows_of`; 0: a row for every sample."""
    rows = rows_of(samples, balance)
    size, longest = len(samples), max(len(s.completion_ids) for s in samples)
    length = max(row_length(samples, row) for row in rows)
    ids, offsets = (
        torch.full((len(rows), length), pad_id),
        torch.zeros((len(rows), length), dtype=torch.long),
    )
    segments = torch.full((len(rows), length), -1)
    row_of = torch.zeros(size, dtype=torch.long)
    counts = torch.zeros((size, longest), dtype=torch.bool)
    positions = torch.zeros((size, longest), dtype=torch.long)
    targets = torch.zeros((size, longest), dtype=torch.long)
    behaviour = None if any(s.behaviour is None for s in samples) else torch.zeros((size, longest))
    for r, row in enumerate(rows):
        prompt = samples[row[0]].prompt_ids
        end = len(prompt)
        ids[r, :end] = torch.tensor(prompt)
        segments[r, :end] = 0
        for segment, i in enumerate(row, start=1):
            completion = torch.tensor(samples[i].completion_ids)
            n = len(completion)
            place = slice(end, end + n)
            ids[r, place], segments[r, place], offsets[r, place] = completion, segment, arange(n)
            row_of[i], counts[i, :n], targets[i, :n] = r, True, completion
            positions[i, :n] = arange(end - 1, end + n - 1)
            positions[i, 0] = len(prompt) - 1
            if behaviour is not None:
                behaviour[i, :n] = torch.tensor(samples[i].behaviour)
            end += n
    return MicroBatch(
        input_ids=ids,
        segments=segments,
        offsets=offsets,
        mm_token_type_ids=((ids == image_token_id) & (segments >= 0)).long(),
        image_index=torch.tensor([images.index(samples[row[0]].image) for row in rows]),
        row=row_of,
        completion_mask=counts,
        positions=positions,
        targets=targets,
        weights=torch.tensor([s.weight for s in samples]),
        advantages=torch.tensor([s.advantage for s in samples]),
        behaviour=behaviour,
    )
