"""When a run of GRPO stops by itself: too much of it is lost, or nothing is learnt any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geoagent_rl.types import Group, UserError

UNSCORABLE_WINDOW = 5  # steps over which reward.max_unscorable_share is judged
FUTILE_STEPS = 10  # steps in a row without an update after which a run has nothing left to hope for


def unscorable_share(groups: Sequence[Group], size: int) -> float:
    """Return the share of samples that could not be scored; a lost group has `size` of them."""
    totals = [s.total for g in groups for s in g.samples]
    lost = sum(size for g in groups if g.lost)
    return (totals.count(None) + lost) / max(len(totals) + lost, 1)


def stop_if_unscorable(shares: Sequence[float], limit: float, groups: Sequence[Group]) -> None:
    """Raise UserError when too many samples could not be scored."""
    share = sum(shares) / len(shares)
    if share <= limit:
        return
    reasons = {
        f"{name}: {o.reason}"
        for g in groups
        for s in g.samples
        for name, o in s.parts.items()
        if o.kind == "infra"
    } | {g.reason for g in groups if g.lost}
    raise UserError(
        f"{share:.0%} of the last {len(shares)} steps' samples could not be scored (limit reward.max_unscorable_share="
        f"{limit}); mend the reward services, then resume. Last reasons: {'; '.join(sorted(reasons)[:3])}"
    )


def stop_if_unreadable(shares: Sequence[float], limit: float, groups: Sequence[Group]) -> None:
    """Raise UserError when too many pictures cannot be opened. One here and there costs its prompt;
    many, over a whole window, are storage that some node does not see.
    """
    share = sum(shares) / len(shares)
    lost = [g.prompt.image for g in groups if not g.samples and not g.lost]
    if len(shares) < UNSCORABLE_WINDOW or share <= limit or not lost:
        return
    raise UserError(
        f"{share:.0%} of the last {len(shares)} steps' pictures could not be opened (limit reward.max_unscorable_share="
        f"{limit}), the last: {lost[-1]}; see that every node has the storage, then resume"
    )


def stop_if_futile(steps: int, row: Mapping[str, Any], skip_grad_norm: float) -> None:
    """Raise UserError after FUTILE_STEPS without an update. steps: how many in a row, up to
    `row`."""
    if steps < FUTILE_STEPS:
        return
    norm = row.get("grad_norm", 0.0)  # absent where it was not finite
    above = f"the gradient's norm is {norm:.3g}, above learner.skip_grad_norm={skip_grad_norm:g}: raise that"
    broken = (
        "losses or gradients are not finite: lower learner.lr and go back to an older checkpoint"
    )
    why = (
        "no sample is learnt from"
        if not row.get("train_tokens")
        else above
        if norm > skip_grad_norm > 0
        else broken
    )
    raise UserError(f"{steps} steps in a row changed nothing; {why}, then resume")
