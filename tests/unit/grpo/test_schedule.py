"""Learning rate over a phase."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from geoagent_rl.grpo.schedule import Phase


def test_warm_up_then_linear_to_the_end_share():
    phase = Phase("grpo", 11, 1.0, 0.1, 0.1, (0.9, 0.99))
    rates = [phase.rate(step) for step in range(11)]
    assert rates[0] == 1.0 and rates[1] == 1.0  # one warm-up step
    assert rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(rates[1:], rates[2:], strict=False))


def test_warm_up_in_steps_and_constant_after_it():
    phase = Phase("grpo", 10, 2.0, 4, 1.0, (0.9, 0.99))
    assert [phase.rate(s) for s in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert phase.rate(9) == 2.0


def test_cosine_is_that_of_transformers():
    phase = Phase("grpo", 21, 1.0, 0, 0.0, (0.9, 0.99), "cosine")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, 0, 20)
    for step in range(21):
        assert phase.rate(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("steps", [1, 2])
def test_short_phases(steps):
    assert Phase("sft", steps, 1.0, 0.03, 0.0, (0.9, 0.99)).rate(0) == 1.0
