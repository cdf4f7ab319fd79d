"""What training needs of a group of rollouts, and no more: token ids, advantages, the sampler's
log-probabilities.

A `TrainGroup` is a few flat arrays, so that all ranks can read one copy of it in Ray's object store
without unpacking it. May know nothing of models or Ray."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoagent_rl.types import Group

Ids = NDArray[np.int32]


def token_ids(values: ArrayLike) -> Ids:
    """Return token ids in the form in which samples hold them."""
    return np.asarray(values, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class TrainSample:
    """One sequence to learn from: one image, its prompt with image tokens expanded, and a
    completion.

    `behaviour` are the sampler's log-probabilities of the completion, None where it gave none.
    `weight` is 1.0, or 0.0 for a copy that only keeps ranks in step. `truncated`: the token limit
    cut it off. Any sequences of numbers may be given; they are kept as arrays."""

    uid: str
    image: str
    prompt_ids: Ids
    completion_ids: Ids
    advantage: float = 0.0
    behaviour: NDArray[np.float32] | None = None
    weight: float = 1.0
    truncated: bool = False

    def __post_init__(self) -> None:
        for name in ("prompt_ids", "completion_ids"):
            object.__setattr__(self, name, token_ids(getattr(self, name)))
        if self.behaviour is not None:
            object.__setattr__(self, "behaviour", np.asarray(self.behaviour, np.float32))

    @property
    def length(self) -> int:
        """Return tokens of prompt and completion."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True, slots=True, eq=False)
class TrainGroup:
    """The n scored completions of one prompt, one after the other in flat arrays.

    `ends` [n]: where each completion ends in `completion_ids` and `behaviour`, which is None where
    the sampler gave no log-probabilities of some completion. `versions` [n]: of the policy that
    generated it. `picture`: see types.Rollout."""

    uid: str
    image: str
    prompt_ids: Ids
    completion_ids: Ids
    behaviour: NDArray[np.float32] | None
    ends: NDArray[np.int64]
    advantages: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    versions: NDArray[np.int32]
    picture: Any = None

    def samples(self) -> list[TrainSample]:
        """Return a TrainSample for each completion; their arrays are views of the group's."""
        out = []
        for i, end in enumerate(self.ends):
            span = slice(self.ends[i - 1] if i else 0, end)
            behaviour = None if self.behaviour is None else self.behaviour[span]
            out.append(
                TrainSample(
                    f"{self.uid}/{i}",
                    self.image,
                    self.prompt_ids,
                    self.completion_ids[span],
                    float(self.advantages[i]),
                    behaviour,
                    truncated=bool(self.truncated[i]),
                )
            )
        return out


def train_group(group: Group) -> TrainGroup:
    """Return the scored completions of a group; unscorable and empty ones are left out of the loss
    altogether.
    """
    taken = [
        (scored.rollout, advantage)
        for scored, advantage in zip(group.samples, group.advantages, strict=True)
        if scored.total is not None and scored.rollout.completion_ids
    ]
    rollouts = [rollout for rollout, _ in taken]
    ends = np.cumsum([len(r.completion_ids) for r in rollouts], dtype=np.int64)
    known = all(len(r.logprobs) == len(r.completion_ids) for r in rollouts)
    return TrainGroup(
        group.prompt.uid,
        group.prompt.image,
        np.array(rollouts[0].prompt_ids if rollouts else (), np.int32),
        flat([r.completion_ids for r in rollouts], "i"),
        flat([r.logprobs for r in rollouts], "f") if known else None,
        ends,
        np.array([advantage for _, advantage in taken], np.float32),
        np.array([r.finish_reason == "length" for r in rollouts], np.bool_),
        np.array([r.version for r in rollouts], np.int32),
        next((s.rollout.picture for s in group.samples if s.rollout.picture is not None), None),
    )


def flat(parts: Sequence[Sequence[float]], code: str) -> NDArray[Any]:
    """Return the numbers of all parts, one after the other, as int32 ("i") or float32 ("f").

    `struct` takes a third of the time of numpy's own ways from tuples."""
    return np.frombuffer(b"".join(struct.pack(f"{len(p)}{code}", *p) for p in parts), code)


def by_prompt(samples: Sequence[TrainSample], share: bool = True) -> list[list[TrainSample]]:
    """Put samples of one prompt (text and picture) together, in the order of their first; share
    False: each alone.
    """
    if not share:
        return [[s] for s in samples]
    groups: dict[tuple[str, bytes], list[TrainSample]] = {}
    for s in samples:
        groups.setdefault((s.image, s.prompt_ids.tobytes()), []).append(s)
    return list(groups.values())
