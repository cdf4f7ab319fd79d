"""How far generation may run ahead of learning: one formula, one integer."""


def prompts_allowed(version: int, max_staleness: int, prompts_per_step: int) -> int:
    """How many prompts may have been started, in all, while the engines hold policy `version` (counted from 0).

    Batch b (from 0) is trained at version b. Its rollouts may be started at version b - max_staleness at the earliest;
    with 0 that is exactly on-policy. The capacity formula of asynchronous RL systems such as AReaL, without its
    fractional part: batches here are whole.
    """
    return (version + max_staleness + 1) * prompts_per_step
