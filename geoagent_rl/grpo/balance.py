"""Which rank learns which completions: whole groups, the costliest first to the least loaded rank.

The step is the same for any assignment; this is only about who is done when. A pure function of its
arguments, so every rank works out all ranks' shares alone. May know nothing of models or Ray."""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.grpo.samples import TrainSample, by_prompt

GAIN = 0.01  # of the mean load: what a further cut must at least win


def cost(samples: Sequence[TrainSample], balance: int) -> float:
    """Return the cost of completions behind one copy of their prompt, in units of a token's linear
    layers.

    balance: the length of a row at which its attention costs as much as its linear layers, so that
    a token that sees another one costs 1 / balance."""
    p = len(samples[0].prompt_ids)
    sizes = [len(s.completion_ids) for s in samples]
    pairs = p * p / 2 + sum(n * p + n * n / 2 for n in sizes)
    return p + sum(sizes) + pairs / balance


def assign(
    samples: Sequence[TrainSample],
    loads: Sequence[float],
    balance: int,
    share: bool = True,
    cut: bool = False,
) -> tuple[list[list[TrainSample]], list[float]]:
    """Return (samples of each rank, loads after them) for ranks that have `loads` from earlier
    calls of a step.

    cut: groups may be divided between ranks, for no later call of the step evens the loads out; so
    may they where there are fewer of them than ranks."""
    groups = by_prompt(samples, share)
    shares: list[list[list[TrainSample]]] = [[] for _ in loads]
    after = list(loads)
    for group in sorted(groups, key=lambda g: -cost(g, balance)):
        rank = after.index(min(after))
        shares[rank].append(group)
        after[rank] += cost(group, balance)
    if len(loads) > 1 and (cut or len(groups) < len(loads)):
        while level(shares, after, balance):
            pass
    return [[s for group in groups for s in group] for groups in shares], after


def level(shares: list[list[list[TrainSample]]], loads: list[float], balance: int) -> bool:
    """Move completions of one group from the most to the least loaded rank; False where no move
    lowers the larger of the two loads by GAIN of the mean."""
    most, least = loads.index(max(loads)), loads.index(min(loads))
    limit = loads[most] - GAIN * sum(loads) / len(loads)
    found: tuple[float, int, int, float, float] | None = None
    for number, group in enumerate(shares[most]):
        whole = cost(group, balance)
        ordered = sorted(group, key=lambda s: -len(s.completion_ids))
        for n in range(1, len(ordered) + 1):
            moved = cost(ordered[:n], balance)
            left = cost(ordered[n:], balance) if n < len(ordered) else 0.0
            theirs, ours = loads[most] - whole + left, loads[least] + moved
            if max(theirs, ours) < limit and (found is None or max(theirs, ours) < found[0]):
                found = max(theirs, ours), number, n, theirs, ours
    if found is None:
        return False
    _, number, n, loads[most], loads[least] = found
    ordered = sorted(shares[most].pop(number), key=lambda s: -len(s.completion_ids))
    shares[least].append(ordered[:n])
    if ordered[n:]:
        shares[most].append(ordered[n:])
    return True
