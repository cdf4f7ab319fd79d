"""What becomes of completions that the token limit cuts off or nearly cuts off
(`learner.overlong`). Pure.

keep     they are learnt from like any other. mask     completions that were cut off leave the loss:
no reward is true of half an answer. Their rewards stay in the
         group's baseline and they still count as sequences in the normaliser, as with TRL's
         mask_truncated_completions.
penalty  a soft penalty on the total, before the advantages, that grows over the last tokens before
the limit."""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.grpo.samples import TrainSample


def counted(samples: Sequence[TrainSample], mode: str) -> list[TrainSample]:
    """Return the samples whose tokens enter the loss."""
    return [s for s in samples if not (mode == "mask" and s.truncated)]


def soft_penalty(tokens: int, max_tokens: int, buffer: float) -> float:
    """Return 0 down to -1, linear over the last `buffer` (a share of max_tokens) before the limit
    (DAPO Eq. 13)."""
    width = buffer * max_tokens
    return -min(1.0, max(0.0, (tokens - (max_tokens - width)) / width))


def penalised(
    totals: Sequence[float | None],
    tokens: Sequence[int],
    max_tokens: int,
    buffer: float,
    most: float,
) -> list[float | None]:
    """Return totals after the soft penalty of at most `most`, in units of reward; None (unscorable)
    stays None.

    tokens: the completions' lengths, the end token included.
    """
    pairs = zip(totals, tokens, strict=True)
    return [None if r is None else r + most * soft_penalty(n, max_tokens, buffer) for r, n in pairs]
