"""From samples to padded micro-batches: who goes where, what counts, which image belongs to whom.

A plan is a pure function of the samples, the number of ranks and the token budget, so every rank can compute all
ranks' plans alone: each gets the same number of micro-batches (the short ones are filled with copies of weight 0), and
collective operations inside a forward pass (ZeRO-3) stay in step. May know nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from geoagent_rl.types import Group


@dataclass(frozen=True, slots=True)
class TrainSample:
    """One sequence to learn from: one image, its prompt with image tokens expanded, and a completion.

    `behaviour` are the sampler's log-probabilities of the completion, None where it gave none.
    `weight` is 1.0, or 0.0 for a copy that only keeps ranks in step. `truncated`: the token limit cut it off.
    """

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
    """B sequences, prompt + completion, padded on the right to L tokens; T is the longest completion."""

    input_ids: Tensor  # [B, L] int64
    attention_mask: Tensor  # [B, L] int64, 0 on padding
    mm_token_type_ids: Tensor  # [B, L] int64, 1 on image tokens
    image_index: Tensor  # [B] int64: which of the caller's images each sequence shows
    completion_mask: Tensor  # [B, T] bool: tokens of the completion, the end token included
    positions: Tensor  # [B, T] int64: where in L the completion token is predicted (one before it)
    targets: Tensor  # [B, T] int64
    weights: Tensor  # [B] float32
    advantages: Tensor  # [B] float32
    behaviour: Tensor | None  # [B, T] float32

    @property
    def mask(self) -> Tensor:
        """[B, T] float32: what counts in the loss."""
        return self.completion_mask * self.weights.unsqueeze(-1)

    def to(self, device: torch.device) -> MicroBatch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: t.to(device) for name, t in tensors.items() if t is not None})


def train_samples(group: Group) -> list[TrainSample]:
    """The scored samples of a group; unscorable and empty ones are left out of the loss altogether."""
    out = []
    for scored, advantage in zip(group.samples, group.advantages, strict=True):
        r = scored.rollout
        if scored.total is None or not r.completion_ids:
            continue
        behaviour = r.logprobs if len(r.logprobs) == len(r.completion_ids) else None
        sample = TrainSample(r.uid, group.prompt.image, r.prompt_ids, r.completion_ids, advantage, behaviour)
        out.append(replace(sample, truncated=r.finish_reason == "length"))
    return out


def micro_batches(samples: Sequence[TrainSample], token_budget: int) -> list[list[TrainSample]]:
    """Splits samples, longest first, so that padded tokens (count x longest) stay within the budget.

    A sample longer than the budget gets a micro-batch of its own: prompts are never truncated.
    """
    batches: list[list[TrainSample]] = []
    for sample in sorted(samples, key=lambda s: -s.length):
        if batches and (len(batches[-1]) + 1) * batches[-1][0].length <= token_budget:
            batches[-1].append(sample)
        else:
            batches.append([sample])
    return batches


def plan(samples: Sequence[TrainSample], ranks: int, token_budget: int) -> list[list[list[TrainSample]]]:
    """Micro-batches of every rank; all ranks get the same number, filled up with weight-0 copies of the shortest."""
    ordered = sorted(samples, key=lambda s: -s.length)
    plans = [micro_batches(ordered[rank::ranks], token_budget) for rank in range(ranks)]
    most = max(map(len, plans))
    if most:
        filler = [replace(ordered[-1], weight=0.0)]
        for batches in plans:
            batches += [filler] * (most - len(batches))
    return plans


def collate(samples: Sequence[TrainSample], images: Sequence[str], image_token_id: int, pad_id: int) -> MicroBatch:
    """Pads on the right; the multimodal token types are derived from the padded ids, so they cannot go astray.

    images: the caller's images, in the order of its features; every sample's image must be among them.
    """
    size, length = len(samples), max(s.length for s in samples)
    longest = max(len(s.completion_ids) for s in samples)
    ids = torch.full((size, length), pad_id)
    mask = torch.zeros((size, length), dtype=torch.long)
    counts = torch.zeros((size, longest), dtype=torch.bool)
    positions = torch.zeros((size, longest), dtype=torch.long)
    targets = torch.zeros((size, longest), dtype=torch.long)
    behaviour = None if any(s.behaviour is None for s in samples) else torch.zeros((size, longest))
    for i, s in enumerate(samples):
        n = len(s.completion_ids)
        ids[i, : s.length] = torch.tensor(s.prompt_ids + s.completion_ids)
        mask[i, : s.length] = 1
        counts[i, :n] = True
        positions[i, :n] = torch.arange(len(s.prompt_ids) - 1, s.length - 1)
        targets[i, :n] = torch.tensor(s.completion_ids)
        if behaviour is not None:
            behaviour[i, :n] = torch.tensor(s.behaviour)
    return MicroBatch(
        input_ids=ids,
        attention_mask=mask,
        mm_token_type_ids=((ids == image_token_id) & mask.bool()).long(),
        image_index=torch.tensor([images.index(s.image) for s in samples]),
        completion_mask=counts,
        positions=positions,
        targets=targets,
        weights=torch.tensor([s.weight for s in samples]),
        advantages=torch.tensor([s.advantage for s in samples]),
        behaviour=behaviour,
    )
