"""How far generation may run ahead of learning: one formula, one integer."""


def groups_under_way(
    wanted: int, max_staleness: int, prompts_per_step: int, steps_left: int
) -> int:
    """Return how many groups may be started and not yet taken by a step, while a step still wants
    `wanted` of them.

    steps_left: steps of the run after this one. Every step takes at least prompts_per_step groups
    in the order in which they were started, so what was started during a step is taken at most
    max_staleness steps later; with 0 that is exactly on-policy. The capacity formula of
    asynchronous RL systems such as AReaL, without its fractional part: batches here are whole."""
    return wanted + min(max_staleness, steps_left) * prompts_per_step
